//! Paths into nested payloads: `a.b`, `a[0].b`, or the JSON pointer `/a/b`.

/// The longest path, steps: as deep as a payload may nest.
pub(crate) const STEPS_MAX: usize = 16;
/// The longest path, bytes.
pub(crate) const PATH_MAX: usize = 256;

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the field of a map.
    Name(String),
    /// To an element of an array, counted from 0.
    Index(usize),
}

/// The steps of `text`. One step is a field's name, whatever it holds.
///
/// # Errors
/// What is wrong with the text, for the operator.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    if text.is_empty() {
        return Err("a field name must not be empty".to_owned());
    }
    if text.len() > PATH_MAX {
        return Err(format!("a path has at most {PATH_MAX} bytes"));
    }
    let steps = match text.strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(pointer_step).collect(),
        None => dotted(text)?,
    };
    if steps.len() > STEPS_MAX {
        return Err(format!("a path has at most {STEPS_MAX} steps"));
    }
    Ok(steps)
}

/// RFC 6901, sections 3 and 4: `~1` is a slash, `~0` a tilde.
fn pointer_step(token: &str) -> Step {
    let is_index = token == "0" || (!token.starts_with('0') && !token.is_empty());
    match token.parse() {
        Ok(index) if is_index && !token.starts_with('+') => Step::Index(index),
        _ => Step::Name(token.replace("~1", "/").replace("~0", "~")),
    }
}

fn dotted(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let (name, indices) = match part.find('[') {
            // A header's cell may carry its unit, `p [bar]`.
            Some(at) if is_indices(&part[at..]) => part.split_at(at),
            _ => (part, ""),
        };
        if name.is_empty() && (indices.is_empty() || !steps.is_empty()) {
            return Err(format!(
                "{text:?} has an empty step; a path is written a.b, a[0].b or /a/b"
            ));
        }
        if !name.is_empty() {
            steps.push(Step::Name(name.to_owned()));
        }
        for index in indices.split(['[', ']']).filter(|index| !index.is_empty()) {
            let index = index
                .parse()
                .map_err(|_| format!("[{index}] is too large"))?;
            steps.push(Step::Index(index));
        }
    }
    Ok(steps)
}

/// Whether `text` is `[0]`, `[0][1]` and so on.
fn is_indices(text: &str) -> bool {
    let parts = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    parts.is_some_and(|inner| {
        inner
            .split("][")
            .all(|index| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let rendered = match parse(text) {
            Ok(steps) => steps
                .iter()
                .map(|step| match step {
                    Step::Name(name) => format!("<{name}>"),
                    Step::Index(index) => format!("<{index}#>"),
                })
                .collect(),
            Err(error) => error,
        };
        assert_eq!(rendered, expected, "{text}");
    }

    #[test]
    fn a_path_is_read_in_each_notation() {
        check("temperature", "<temperature>");
        check("DS18B20.Temperature", "<DS18B20><Temperature>");
        check("a.b[0].c", "<a><b><0#><c>");
        check("a[1][20]", "<a><1#><20#>");
        check("[3].t", "<3#><t>");
        check("/a/b~1c/0/01/m~0n", "<a><b/c><0#><01><m~n>");
        check("p [bar]", "<p [bar]>");
        check("Volume Flow RateRMS", "<Volume Flow RateRMS>");
        check("a/b", "<a/b>");
        check("/", "<>");
    }

    #[test]
    fn what_is_no_path_is_refused_with_how_one_is_written() {
        let empty = |text: &str| {
            format!("{text:?} has an empty step; a path is written a.b, a[0].b or /a/b")
        };
        check("", "a field name must not be empty");
        for text in ["a..b", ".a", "a.", "a.[0]"] {
            check(text, &empty(text));
        }
        check(&"a.".repeat(20)[..39], "a path has at most 16 steps");
        check(&"a".repeat(257), "a path has at most 256 bytes");
        check(
            "a[99999999999999999999]",
            "[99999999999999999999] is too large",
        );
    }
}
