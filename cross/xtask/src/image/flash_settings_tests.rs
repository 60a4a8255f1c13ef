//! `flash.sh` and the first settings of a board: what `--site` and `--ssh-key`
//! name is checked before anything is written.

use super::flash_tests::{Desk, check_refused};

const KEY: &[u8] = b"ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ a@b\n";

#[test]
fn first_settings_that_a_board_could_not_take_are_refused() {
    let check = |option: &str, content: &[u8], reason: &str| {
        let desk = Desk::new();
        desk.add_hark("#!/bin/sh\n");
        let path = desk.write("first", content);
        for run in ["--dry-run", "--yes"] {
            let more = [option, path.as_str(), run];
            check_refused(&desk, "qemu-virt", &desk.target(), &more, reason);
        }
    };
    check("--site", b"", "is missing, empty, or no file");
    check("--site", &[b'#'; 65537], "larger than 65536 bytes");
    check("--site", b"a = \"\xff\"\n", "not UTF-8 text");
    check("--site", b"a = \"\0\"\n", "not UTF-8 text");
    check("--ssh-key", b"", "is missing, empty, or no file");
    check("--ssh-key", &KEY.repeat(1000), "larger than 65536 bytes");
    check("--ssh-key", b"[mqtt]\nhost = \"h\"\n", "no public SSH key");
    let private = b"-----BEGIN OPENSSH PRIVATE KEY-----\n";
    check("--ssh-key", private, "is a private key");
    let desk = Desk::new();
    let folder = desk.folder.to_str().expect("a path in UTF-8");
    for option in ["--site", "--ssh-key"] {
        let more = [option, folder];
        check_refused(&desk, "qemu-virt", &desk.target(), &more, "or no file");
    }
}

#[test]
fn a_site_inherits_from_its_own_board_only() {
    let check = |inherited: &str, is_right: bool| {
        let desk = Desk::new();
        desk.add_hark("#!/bin/sh\n");
        let content = format!("# A site.\ninherit = {inherited} # its board\n");
        let site = desk.write("site.toml", content.as_bytes());
        let more = ["--site", site.as_str(), "--dry-run"];
        if is_right {
            let output = desk.flash("qemu-virt", &desk.target(), &more);
            assert!(output.status.success(), "{inherited}: {output:?}");
        } else {
            check_refused(&desk, "qemu-virt", &desk.target(), &more, "another board's");
        }
    };
    check("\"base.toml\"", true);
    check("\"qemu-virt.toml\"", true);
    check("'/usr/share/hark/board-configs/qemu-virt.toml'", true);
    check("\"rock-5b.toml\"", false);
    check("'/usr/share/hark/board-configs/rock-5b.toml'", false);
}

#[test]
fn a_site_is_checked_by_this_computers_hark_as_if_it_were_on_the_board() {
    let desk = Desk::new();
    let inherit = "inherit = \"/usr/share/hark/board-configs/qemu-virt.toml\"\n";
    let site = desk.write("site.toml", inherit.as_bytes());
    let more = ["--site", site.as_str(), "--dry-run"];
    // It is given a copy whose inherited file is there, and no variable of flash.sh.
    desk.add_hark(
        "#!/bin/sh\n[ \"$1 $2\" = 'check --config' ] || exit 1\n\
         inherited=$(sed -n 's/^inherit = \"\\(.*\\)\"$/\\1/p' \"$3\")\n\
         [ -f \"$inherited\" ] && [ -z \"$HARK_SSH_COMMAND\" ]",
    );
    let mut flash = desk.command("qemu-virt", &desk.target(), &more);
    let output = flash.env("HARK_SSH_COMMAND", "ssh").output();
    let output = output.expect("flash.sh starts");
    assert!(output.status.success(), "{output:?}");

    desk.add_hark("#!/bin/sh\necho \"$3:2:1: unknown key\" >&2\necho missing here: x\nexit 1");
    let words = format!("\n{site}:2:1: unknown key\n");
    check_refused(&desk, "qemu-virt", &desk.target(), &more, &words);

    // What it names may be on the board.
    desk.add_hark(
        "#!/bin/sh\necho missing here: x\n\
         echo 'sources, a: elf: /a: No such file or directory (os error 2)'\nexit 1",
    );
    let output = desk.flash("qemu-virt", &desk.target(), &more);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("the board must have files"), "{stdout}");
}
