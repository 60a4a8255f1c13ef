//! The file of what is to outlive hark: lines of JSON, appended and synced, and
//! rewritten as a whole before they grow long.
//!
//! ```text
//! {"hark":"standing alerts","format":1}
//! {"n":17,"topic":"hark/v1/g/alert/p1","payload":"{…}","stands":true}    posted
//! {"sent":17}                                                           settled
//! ```
//!
//! A post is kept while it is unsettled, or while it is the newest of its topic and
//! stands. A line that a power cut has torn off at the end was never synced, and is
//! left out; any other that cannot be read makes the file damaged: it is set aside,
//! what can be read of it counts.

use anyhow::Context;
use hark_hal::{replace_file, sync_folder_of};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The longest line: an alert is well below a kilobyte, its longest names included.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// The file is rewritten once it is twice as long as what it keeps, and longer than
/// this.
const SLACK_BYTES: u64 = 64 * 1024;
/// Posts that are kept because they stand: four kinds of more sensors than a gateway
/// has. Beyond, the oldest is forgotten, counted.
const STANDING_MAX: usize = 65_536;

/// Something published, or to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Its number, by which it is settled.
    pub number: u64,
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: String,
    /// Whether it holds until another of its topic comes.
    pub stands: bool,
    /// The broker has answered for it, or it was given up.
    pub is_settled: bool,
}

/// The file, and what of it is kept.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    unsettled_max: usize,
    /// None: it is to be written anew.
    file: Option<File>,
    bytes: u64,
    kept_bytes: u64,
    posts: BTreeMap<u64, Post>,
    /// By topic.
    newest: HashMap<String, u64>,
    unsettled: usize,
    /// Posts that were forgotten for want of room.
    pub(super) forgotten: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Header { hark: String, format: u32 },
    Post(PostLine),
    Sent { sent: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostLine {
    n: u64,
    topic: String,
    payload: String,
    stands: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    settled: bool,
}

const HARK: &str = "standing alerts";
const FORMAT: u32 = 1;

/// How reading the file went.
#[derive(Debug, Default)]
struct Reading {
    lines: u64,
    unreadable: u64,
    has_header: bool,
}

impl JournalFile {
    /// The journal at `path`, with what an earlier hark left there. A file that is
    /// damaged or another's is set aside, and told.
    pub(super) fn open(path: &Path, unsettled_max: usize) -> Self {
        let mut journal = Self {
            path: path.to_owned(),
            unsettled_max,
            file: None,
            bytes: 0,
            kept_bytes: 0,
            posts: BTreeMap::new(),
            newest: HashMap::new(),
            unsettled: 0,
            forgotten: 0,
        };
        if let Err(error) = journal.read() {
            let shown = path.display();
            let aside = set_aside(path);
            let aside = match aside {
                Ok(aside) => format!("it is set aside as {}", aside.display()),
                Err(error) => format!("it cannot be set aside: {error}"),
            };
            let kept = journal.posts.len();
            tracing::error!("{shown} {error}; {aside}, {kept} of its alerts are known");
        }
        journal
    }

    /// What is kept, oldest first.
    pub(super) fn posts(&self) -> impl Iterator<Item = &Post> {
        self.posts.values()
    }

    /// The greatest number in use.
    pub(super) fn last_number(&self) -> u64 {
        self.posts.last_key_value().map_or(0, |(number, _)| *number)
    }

    fn read(&mut self) -> Result<(), String> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("cannot be read: {error}")),
        };
        let mut reader = BufReader::new(file);
        let mut read = Reading::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let taken = reader.by_ref().take(LINE_BYTES_MAX);
            let len = { taken }.read_until(b'\n', &mut line);
            match len {
                Ok(0) => break,
                Ok(_) => self.read_line(&line, &mut read),
                Err(error) => return Err(format!("cannot be read: {error}")),
            }
            // Another's file may be of any length.
            if read.lines > 0 && !read.has_header {
                return Err("is not of this hark".to_owned());
            }
        }
        if read.unreadable > 0 {
            return Err(format!("is damaged in {} lines", read.unreadable));
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], read: &mut Reading) {
        // What a power cut has torn off was never synced.
        let Some(line) = line.strip_suffix(b"\n") else {
            let is_too_long = line.len() as u64 == LINE_BYTES_MAX;
            read.unreadable += u64::from(is_too_long);
            read.lines += u64::from(!read.has_header);
            return;
        };
        read.lines += 1;
        match serde_json::from_slice(line) {
            Ok(Line::Header { hark, format }) => {
                read.has_header |= hark == HARK && format == FORMAT;
            }
            Ok(Line::Post(post)) => self.keep(Post {
                number: post.n,
                topic: post.topic,
                payload: post.payload,
                stands: post.stands,
                is_settled: post.settled,
            }),
            Ok(Line::Sent { sent }) => self.settle(sent),
            Err(_) => read.unreadable += 1,
        }
    }

    /// Takes in a post; it is on the disk after [`JournalFile::write`].
    pub(super) fn keep(&mut self, post: Post) {
        let number = post.number;
        let before = self.newest.insert(post.topic.clone(), number);
        self.unsettled += usize::from(!post.is_settled);
        self.kept_bytes += line_of(&post).len() as u64;
        if let Some(gone) = self.posts.insert(number, post) {
            // A number that comes twice: the later line counts.
            self.unsettled -= usize::from(!gone.is_settled);
        }
        if let Some(before) = before.filter(|before| *before != number) {
            self.drop_if_over(before);
        }
        self.drop_if_over(number);
        self.forget_beyond_the_bounds();
    }

    /// The broker has answered for a post, or it was given up.
    pub(super) fn settle(&mut self, number: u64) {
        if let Some(post) = self.posts.get_mut(&number)
            && !std::mem::replace(&mut post.is_settled, true)
        {
            self.unsettled -= 1;
            self.drop_if_over(number);
        }
    }

    fn drop_if_over(&mut self, number: u64) {
        let Some(post) = self.posts.get(&number) else {
            return;
        };
        let is_newest = self.newest.get(&post.topic) == Some(&number);
        if post.is_settled && !(is_newest && post.stands) {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(post) = self.posts.remove(&number) else {
            return;
        };
        self.unsettled -= usize::from(!post.is_settled);
        let bytes = line_of(&post).len() as u64;
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        if self.newest.get(&post.topic) == Some(&number) {
            self.newest.remove(&post.topic);
        }
    }

    fn forget_beyond_the_bounds(&mut self) {
        let is_over = |journal: &Self| {
            let standing = journal.posts.len() - journal.unsettled;
            journal.unsettled > journal.unsettled_max || standing > STANDING_MAX
        };
        while is_over(self) {
            let are_unsettled = self.unsettled > self.unsettled_max;
            let mut posts = self.posts.values();
            let oldest = posts.find(|post| post.is_settled != are_unsettled);
            let Some(number) = oldest.map(|post| post.number) else {
                return;
            };
            self.remove(number);
            self.forgotten += 1;
        }
    }

    /// Brings lines to the disk: those of `posted` and `settled`, which were taken
    /// in, or all that is kept where the file is too long or not there.
    ///
    /// # Errors
    /// The operation and the path. Nothing is lost of what is kept: the next call
    /// writes all of it.
    pub(super) fn write(&mut self, posted: &[Post], settled: &[u64]) -> anyhow::Result<()> {
        let is_long = self.bytes > 2 * self.kept_bytes + SLACK_BYTES;
        let written = match &mut self.file {
            Some(file) if !is_long => {
                let mut lines = Vec::new();
                posted.iter().for_each(|post| lines.extend(line_of(post)));
                for &sent in settled {
                    push_line(&mut lines, &Line::Sent { sent });
                }
                let appended = file.write_all(&lines).and_then(|()| file.sync_data());
                self.bytes += lines.len() as u64;
                appended.with_context(|| format!("appending to {}", self.path.display()))
            }
            _ => self.rewrite(),
        };
        if written.is_err() {
            self.file = None;
        }
        written
    }

    fn rewrite(&mut self) -> anyhow::Result<()> {
        let hark = HARK.to_owned();
        let format = FORMAT;
        let mut content = Vec::new();
        push_line(&mut content, &Line::Header { hark, format });
        let posts = self.posts.values();
        posts.for_each(|post| content.extend(line_of(post)));
        let shown = self.path.display();
        let writing = || format!("writing {shown}");
        if let Some(folder) = self.path.parent()
            && !folder.is_dir()
        {
            fs::create_dir_all(folder).with_context(writing)?;
            sync_folder_of(folder).with_context(writing)?;
        }
        replace_file(&self.path, &content).with_context(writing)?;
        let file = OpenOptions::new().append(true).open(&self.path);
        self.file = Some(file.with_context(writing)?);
        self.bytes = content.len() as u64;
        self.kept_bytes = self.bytes;
        Ok(())
    }
}

fn line_of(post: &Post) -> Vec<u8> {
    let mut line = Vec::new();
    let post = PostLine {
        n: post.number,
        topic: post.topic.clone(),
        payload: post.payload.clone(),
        stands: post.stands,
        settled: post.is_settled,
    };
    push_line(&mut line, &Line::Post(post));
    line
}

fn push_line(lines: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(&mut *lines, line).expect("lines hold text and numbers");
    lines.push(b'\n');
}

/// Renames the file; one that was set aside before gives way.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside = OsString::from(path);
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside)?;
    sync_folder_of(path)?;
    Ok(aside)
}

#[cfg(test)]
mod tests;
