//! What the machine calls itself, and this user.

/// The host name as the kernel knows it; what is not UTF-8 is replaced.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The name of the user that this process acts as, as `/etc/passwd` knows it;
/// its number where it does not.
pub fn user_name() -> String {
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = rustix::process::geteuid().as_raw();
    name_of(&known, uid).unwrap_or_else(|| uid.to_string())
}

fn name_of(known: &str, uid: u32) -> Option<String> {
    known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_its_number() {
        let known = "root:x:0:0:root:/root:/bin/sh\nbroken\nhark:x:990:990::/:/bin/false\n";
        assert_eq!(name_of(known, 990).as_deref(), Some("hark"));
        assert_eq!(name_of(known, 0).as_deref(), Some("root"));
        assert_eq!(name_of(known, 99), None);
    }
}
