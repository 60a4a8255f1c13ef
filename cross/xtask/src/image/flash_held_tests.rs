//! `flash.sh` writes what it verified: whatever happens to the files by then, be
//! they exchanged or written to, what is flashed has the signed sum or is refused.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::flash_tests::Desk;

/// An image of the same size that nobody signed.
fn other_image(desk: &Desk) -> Vec<u8> {
    vec![
        0xEE;
        fs::read(desk.image_of_kind("img"))
            .expect("the image")
            .len()
    ]
}

/// Another file takes the image's place, as `mv` does.
fn exchange(desk: &Desk) {
    let other = desk.write("other.img", &other_image(desk));
    fs::rename(other, desk.image_of_kind("img")).expect("it takes the place");
}

/// The image's own bytes change, as by `cp`.
fn overwrite(desk: &Desk) {
    fs::write(desk.image_of_kind("img"), other_image(desk)).expect("the image is written to");
}

/// Flashes over a disk, at a terminal, and answers yes after `meanwhile`.
fn flash_with_consent(desk: &Desk, meanwhile: impl FnOnce(&Desk)) -> Output {
    fs::write(desk.target(), vec![7; 2_000_000]).expect("a disk in use");
    let flash = desk.command("qemu-virt", &desk.target(), &[]);
    let words = std::iter::once(flash.get_program()).chain(flash.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().expect("a word in UTF-8")))
        .collect();
    // Gives it a terminal, which is where a question is asked.
    let mut terminal = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &words.join(" "),
            "/dev/null",
        ])
        .env("CARGO_TARGET_DIR", desk.folder.join("target"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    let mut stdout = terminal.stdout.take().expect("it is piped");
    let mut stdin = terminal.stdin.take().expect("it is piped");
    let mut told = Vec::new();
    let mut byte = [0];
    while !told.ends_with(b"Type yes to go on: ") && stdout.read(&mut byte).is_ok_and(|n| n == 1) {
        told.push(byte[0]);
    }
    meanwhile(desk);
    stdin.write_all(b"yes\n").expect("it listens");
    stdout.read_to_end(&mut told).expect("it speaks");
    let status = terminal.wait().expect("it ends");
    let stderr = Vec::new();
    Output {
        status,
        stdout: told,
        stderr,
    }
}

#[test]
fn an_image_exchanged_during_the_question_is_not_what_is_written() {
    let desk = Desk::new();
    let signed = fs::read(desk.image_of_kind("img")).expect("the image");
    let output = flash_with_consent(&desk, exchange);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let written = fs::read(desk.target()).expect("it was written");
    assert!(
        written.starts_with(&signed),
        "the unsigned image was written"
    );
}

#[test]
fn an_image_written_to_during_the_question_costs_the_disk_nothing() {
    let desk = Desk::new();
    let output = flash_with_consent(&desk, overwrite);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("was changed while the question stood"),
        "{told}"
    );
    let kept = fs::read(desk.target()).expect("the disk is there");
    assert!(kept.iter().all(|byte| *byte == 7), "it was written to");
}

/// Flashes a new disk with a `dd` that first does `meanwhile` to the image, whose
/// path is `$image` in it.
fn flash_with_dd(desk: &Desk, meanwhile: &str) -> Output {
    let image = desk.image_of_kind("img");
    let other = desk.write("other.img", &other_image(desk));
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\nimage={} other={other}\n{meanwhile}\nexec dd \"$@\"\n",
        image.display()
    );
    let dd = desk.write("bin/dd", script.as_bytes());
    fs::set_permissions(dd, fs::Permissions::from_mode(0o755)).expect("it may run");
    let path = env::var("PATH").expect("there is a PATH");
    let programs = desk.folder.join("bin");
    desk.command("qemu-virt", &desk.target(), &[])
        .env("PATH", format!("{}:{path}", programs.display()))
        .output()
        .expect("flash.sh starts")
}

#[test]
fn an_image_written_to_while_it_is_written_is_told_from_a_broken_medium() {
    let desk = Desk::new();
    let output = flash_with_dd(&desk, "cp $other $image");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("was changed after it was checked"),
        "{stderr}"
    );
    assert!(stderr.contains("flash it again before use"), "{stderr}");
}

#[test]
fn first_settings_are_those_that_were_checked() {
    let desk = Desk::new();
    // A disk whose first partition takes settings: what mcopy writes to.
    let image = desk.image_of_kind("img");
    make_image_with_settings(&image);
    desk.seal();
    let key =
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ a@b\n";
    let path = desk.write("key.pub", key);
    let script =
        format!("#!/bin/sh\necho 'not the key' >{path}\nPATH=/usr/bin:/bin exec dd \"$@\"\n");
    let dd = desk.write("bin/dd", script.as_bytes());
    fs::set_permissions(dd, fs::Permissions::from_mode(0o755)).expect("it may run");
    let programs = env::var("PATH").expect("there is a PATH");
    let programs = format!("{}:{programs}", desk.folder.join("bin").display());
    let output = desk
        .command("qemu-virt", &desk.target(), &["--ssh-key", &path])
        .env("PATH", programs)
        .output()
        .expect("flash.sh starts");
    assert!(output.status.success(), "{output:?}");
    let mut read = Command::new("mtype");
    let kept = read
        .arg("-i")
        .arg(format!("{}@@1M", desk.target().display()))
        .arg("::/site/authorized_keys")
        .output()
        .expect("mtype starts");
    assert_eq!(kept.stdout, key);
}

/// An image of 4 MB with a file system at 1 MB that has the folder `site`.
fn make_image_with_settings(image: &Path) {
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program)
            .args(args)
            .output()
            .expect("it starts");
        assert!(done.status.success(), "{program}: {done:?}");
    };
    let path = image.to_str().expect("a path in UTF-8");
    fs::write(image, vec![0; 4 << 20]).expect("an image");
    run(
        "mformat",
        &[
            "-i",
            &format!("{path}@@1M"),
            "-h",
            "16",
            "-s",
            "63",
            "-t",
            "6",
            "::",
        ],
    );
    run("mmd", &["-i", &format!("{path}@@1M"), "::/site"]);
}
