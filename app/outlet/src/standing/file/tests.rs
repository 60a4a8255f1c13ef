//! What the file keeps, whatever ends hark or damages it.

use super::*;

fn post(number: u64, topic: &str, stands: bool) -> Post {
    Post {
        number,
        topic: topic.to_owned(),
        payload: format!("{{\"state\":{stands},\"n\":{number}}}"),
        stands,
        is_settled: false,
    }
}

struct Bench {
    folder: tempfile::TempDir,
    journal: JournalFile,
}

impl Bench {
    fn new(unsettled_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = JournalFile::open(&folder.path().join("standing.jsonl"), unsettled_max);
        Self { folder, journal }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("standing.jsonl")
    }

    fn post(&mut self, number: u64, topic: &str, stands: bool) {
        let post = post(number, topic, stands);
        self.journal.keep(post.clone());
        self.journal.write(&[post], &[]).unwrap();
    }

    fn settle(&mut self, number: u64) {
        self.journal.settle(number);
        self.journal.write(&[], &[number]).unwrap();
    }

    /// The numbers that are kept, with `!` where they are unsettled.
    fn kept(&self) -> String {
        kept(&self.journal)
    }

    /// The same after hark was killed and started.
    fn kept_after_a_kill(&self) -> String {
        kept(&JournalFile::open(&self.path(), 10))
    }

    fn is_set_aside(&self) -> bool {
        self.folder.path().join("standing.jsonl.damaged").exists()
    }
}

fn kept(journal: &JournalFile) -> String {
    let numbers = journal.posts().map(|post| {
        let mark = if post.is_settled { "" } else { "!" };
        format!("{}{mark}", post.number)
    });
    numbers.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_stands_and_what_is_unsettled_outlives_a_kill_at_every_step() {
    let mut bench = Bench::new(10);
    let mut step = |act: &dyn Fn(&mut Bench), expected: &str| {
        act(&mut bench);
        assert_eq!(bench.kept(), expected);
        assert_eq!(bench.kept_after_a_kill(), expected);
    };
    step(&|bench| bench.post(1, "a", true), "1!");
    step(&|bench| bench.post(2, "b", true), "1! 2!");
    step(&|bench| bench.settle(1), "1 2!");
    step(&|bench| bench.post(3, "a", false), "2! 3!");
    step(&|bench| bench.settle(2), "2 3!");
    step(&|bench| bench.settle(3), "2");
    step(&|bench| bench.post(4, "b", true), "4!");
    step(&|bench| bench.post(5, "b", true), "4! 5!");
}

#[test]
fn the_oldest_gives_way_counted_when_too_much_is_unsettled() {
    let mut bench = Bench::new(2);
    (1..=4).for_each(|n| bench.post(n, &format!("topic {n}"), n == 1));
    assert_eq!(bench.kept(), "3! 4!");
    assert_eq!(bench.journal.forgotten, 2);
}

#[test]
fn a_long_life_keeps_the_file_short() {
    let mut bench = Bench::new(10);
    for n in 1..=3_000 {
        bench.post(n, "a", n % 2 == 0);
        bench.settle(n);
    }
    let len = fs::metadata(bench.path()).unwrap().len();
    assert!(len < 2 * SLACK_BYTES, "{len}");
    assert_eq!(bench.kept_after_a_kill(), "3000");
}

#[test]
fn every_torn_end_costs_the_last_line_alone() {
    let mut bench = Bench::new(10);
    bench.post(1, "a", true);
    bench.post(2, "b", true);
    let whole = fs::read(bench.path()).unwrap();
    let before_last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n');
    for len in before_last.unwrap() + 1..whole.len() {
        fs::write(bench.path(), &whole[..len]).unwrap();
        assert_eq!(bench.kept_after_a_kill(), "1!", "{len} bytes");
        assert!(!bench.is_set_aside(), "{len} bytes");
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_what_is_sound_of_it_counts() {
    let mut bench = Bench::new(10);
    (1..=3).for_each(|n| bench.post(n, &format!("topic {n}"), true));
    let whole = fs::read_to_string(bench.path()).unwrap();
    fs::write(bench.path(), whole.replace("\"n\":2", "\"n\":x")).unwrap();
    assert_eq!(bench.kept_after_a_kill(), "1! 3!");
    assert!(bench.is_set_aside());
    assert!(!bench.path().exists());
}

#[test]
fn another_programs_file_is_set_aside_whatever_it_holds() {
    let long = "x".repeat(100_000);
    for foreign in [
        "{}\n",
        "\u{0}\u{1}\n",
        "[1]\n",
        &long,
        "not ours\n",
        "half a line",
    ] {
        let bench = Bench::new(10);
        fs::write(bench.path(), foreign).unwrap();
        assert_eq!(bench.kept_after_a_kill(), "", "{foreign:.20}");
        assert!(bench.is_set_aside(), "{foreign:.20}");
    }
    let bench = Bench::new(10);
    fs::create_dir(bench.path()).unwrap();
    assert_eq!(bench.kept_after_a_kill(), "");
    fs::write(bench.path().join("file"), "").ok();
}

#[test]
fn what_could_not_be_written_is_written_with_the_next() {
    let mut bench = Bench::new(10);
    bench.post(1, "a", true);
    fs::remove_file(bench.path()).unwrap();
    fs::create_dir(bench.path()).unwrap();
    bench.journal.file = None;
    let second = post(2, "b", true);
    bench.journal.keep(second.clone());
    bench.journal.write(&[second], &[]).unwrap_err();
    fs::remove_dir(bench.path()).unwrap();
    bench.post(3, "c", true);
    assert_eq!(bench.kept_after_a_kill(), "1! 2! 3!");
}
