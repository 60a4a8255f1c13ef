//! Topics and filters (3.1.1, 4.7; 5.0, 4.7).

use crate::fields::Wrong;

const TOPIC_INVALID: u8 = 0x90;

/// Whether messages may be published to `name`.
pub(crate) fn check_name(name: &str) -> Result<(), Wrong> {
    let wrong = |what| Wrong {
        code: TOPIC_INVALID,
        what,
    };
    if name.is_empty() {
        return Err(wrong("its topic is empty"));
    }
    if name.contains(['+', '#']) {
        return Err(wrong("its topic has a wildcard in it"));
    }
    Ok(())
}

/// Whether `filter` is one: each wildcard a level of its own, `#` the last.
pub(crate) fn is_filter(filter: &str) -> bool {
    let is_level = |level: &str| level.len() == 1 || !level.contains(['+', '#']);
    let mut before_last = filter.rsplit('/').skip(1);
    !filter.is_empty() && filter.split('/').all(is_level) && !before_last.any(|level| level == "#")
}

pub(crate) fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether `filter` asks for messages of `topic`. Wildcards at the start do not
/// match topics that begin with `$` (3.1.1, 4.7.2; 5.0, 4.7.2).
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            // The level above it, too.
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// What every topic that `filter` matches begins with.
pub(crate) fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = &filter[..end];
    // `a/#` matches `a`.
    match filter[end..].starts_with('#') {
        true => prefix.strip_suffix('/').unwrap_or(prefix),
        false => prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let check = |filter: &str, topic: &str, expected: bool| {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
            if expected {
                assert!(
                    topic.starts_with(literal_prefix(filter)),
                    "{filter} {topic}"
                );
            }
        };
        check("a/b", "a/b", true);
        check("a/b", "a/b/c", false);
        check("a/b/c", "a/b", false);
        check("a/#", "a", true);
        check("a/#", "ab", false);
        check("a/#", "a/b/c", true);
        check("#", "a/b", true);
        check("#", "/", true);
        check("+", "a", true);
        check("+", "/a", false);
        check("+/+", "/a", true);
        check("/+", "/a", true);
        check("a/+", "a", false);
        check("a/+", "a/", true);
        check("a/+/c", "a/b/c", true);
        check("a/+/#", "a", false);
        check("a/+/#", "a/b", true);
        check("#", "$SYS/x", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
        check("$SYS/+", "$SYS/x", true);
        check("a/$b", "a/$b", true);
        check("a/+", "a/$b", true);
    }

    #[test]
    fn wildcards_stand_alone_and_the_last_takes_the_rest() {
        for filter in ["#", "+", "a/#", "a/+/b", "/", "+/+", "//"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "##", "a/++"] {
            assert!(!is_filter(filter), "{filter}");
        }
    }

    #[test]
    fn a_topic_of_a_message_is_no_filter() {
        for name in ["", "+", "a/#", "a+b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("a/b c/$").is_ok());
    }
}
