//! Topic patterns of MQTT sources, and the sensor's name that a topic yields.
//!
//! A pattern is an MQTT filter in which `{name}` stands for one level and
//! captures it: `plant/{line}/+/{node}/#`. A template such as `{line}-{node}`
//! builds the sensor's name from the captures. Nothing here talks to a broker.

use std::fmt;

/// Bytes in a topic or filter. MQTT 5.0, section 1.5.4: strings have a 16-bit length.
const TOPIC_BYTES_MAX: usize = 65_535;

/// The longest sensor name, bytes: it becomes a level of a topic and a label.
pub const SENSOR_NAME_MAX: usize = 64;

/// Checks that `name` can be one level of a topic: not empty, no `/`, `+`, `#` or control character.
pub fn check_level(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("must not be empty".to_owned());
    }
    match name
        .chars()
        .find(|c| matches!(c, '/' | '+' | '#') || c.is_control())
    {
        Some(c) => Err(format!(
            "becomes a level of an MQTT topic, so it must not hold {c:?}"
        )),
        None => Ok(()),
    }
}

/// What begins a subscription whose messages the broker shares out among the
/// clients of one group (MQTT 5.0, section 4.8.2). No message's topic begins so.
const SHARE: &str = "$share/";

/// The level that names a channel, and not the sensor: the payload is its value.
pub const CHANNEL_CAPTURE: &str = "channel";

/// A subscription that captures levels of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    /// The group of a shared subscription.
    group: Option<String>,
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Capture(String),
    /// `+`
    One,
    /// `#`, only at the end
    Rest,
}

impl TopicPattern {
    /// Parses a pattern such as `sensors/{sensor}`.
    ///
    /// # Errors
    /// What is wrong with the text, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > TOPIC_BYTES_MAX {
            return Err(format!("must be 1 to {TOPIC_BYTES_MAX} bytes long"));
        }
        let (group, text) = match text.strip_prefix(SHARE) {
            None => (None, text),
            Some(shared) => {
                let (group, text) = parse_group(shared)?;
                (Some(group.to_owned()), text)
            }
        };
        let levels = text
            .split('/')
            .map(Level::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if levels[..levels.len() - 1].contains(&Level::Rest) {
            return Err("`#` must be the last level".to_owned());
        }
        let pattern = Self { group, levels };
        let names: Vec<&str> = pattern.names().collect();
        match names
            .iter()
            .enumerate()
            .find(|(i, name)| names[..*i].contains(name))
        {
            Some((_, name)) => Err(format!("`{{{name}}}` stands for two levels")),
            None => Ok(pattern),
        }
    }

    /// The filter to subscribe to, `sensors/+`.
    pub fn filter(&self) -> String {
        let levels: Vec<&str> = self.levels.iter().map(Level::filter).collect();
        let levels = levels.join("/");
        match &self.group {
            Some(group) => format!("{SHARE}{group}/{levels}"),
            None => levels,
        }
    }

    /// Whether a level names the channel whose value the payload is.
    pub fn captures_channel(&self) -> bool {
        self.names().any(|name| name == CHANNEL_CAPTURE)
    }

    /// The names of the captured levels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether `topic` is one of this pattern's, by the rules of MQTT.
    pub fn is_match(&self, topic: &str) -> bool {
        // MQTT 5.0, section 4.7.2: wildcards in front do not reach `$SYS` and its kin.
        let starts_wild = !matches!(self.levels[0], Level::Literal(_));
        if starts_wild && topic.starts_with('$') {
            return false;
        }
        let mut levels = topic.split('/');
        for level in &self.levels {
            match (level, levels.next()) {
                (Level::Rest, _) => return true,
                (Level::Literal(text), Some(found)) if text == found => {}
                (Level::One | Level::Capture(_), Some(_)) => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// The level of `topic` that `name` captures; none if it does not match or captures nothing so.
    pub fn capture<'a>(&self, name: &str, topic: &'a str) -> Option<&'a str> {
        let wanted = |level: &Level| matches!(level, Level::Capture(own) if own == name);
        let index = self.levels.iter().position(wanted)?;
        self.is_match(topic)
            .then(|| topic.split('/').nth(index))
            .flatten()
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "{SHARE}{group}/")?;
        }
        for (i, level) in self.levels.iter().enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            match level {
                Level::Capture(name) => write!(f, "{slash}{{{name}}}")?,
                other => write!(f, "{slash}{}", other.filter())?,
            }
        }
        Ok(())
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            return parse_name(name).map(Self::Capture);
        }
        match text {
            "+" => Ok(Self::One),
            "#" => Ok(Self::Rest),
            _ if text.contains(['+', '#', '{', '}']) => Err(format!(
                "level {text:?}: `+`, `#` and `{{name}}` each take a whole level"
            )),
            _ if text.contains(char::is_control) => {
                Err(format!("level {text:?} holds a control character"))
            }
            _ => Ok(Self::Literal(text.to_owned())),
        }
    }

    fn filter(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Capture(_) | Self::One => "+",
            Self::Rest => "#",
        }
    }
}

/// The group, and the pattern after it.
fn parse_group(shared: &str) -> Result<(&str, &str), String> {
    let (group, pattern) = shared
        .split_once('/')
        .filter(|(_, pattern)| !pattern.is_empty())
        .ok_or("after `$share/` a group and a topic, such as \"$share/harks/plant/{sensor}\"")?;
    if group.is_empty() || group.contains(['+', '#', '{', '}']) || group.contains(char::is_control)
    {
        return Err(format!("{group:?} is no group for `$share`: it is a name"));
    }
    Ok((group, pattern))
}

fn parse_name(name: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "`{{{name}}}`: a name in braces is letters, digits, `_` and `-`"
    ))
}

/// A sensor's name with the captured levels to be filled in, `{line}-{node}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Capture(String),
}

impl SensorTemplate {
    /// Parses a template; one without braces is a fixed name.
    ///
    /// # Errors
    /// What is wrong with the text, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_level(text)?;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, braced) = rest.split_at(open);
            let inner = braced
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'));
            let (name, after) = inner.ok_or("a brace has no counterpart")?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Capture(parse_name(name)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        let literals = parts.iter().map(|part| match part {
            Part::Literal(text) => text.len(),
            // At the least; the whole is known with the topic.
            Part::Capture(_) => 1,
        });
        if literals.sum::<usize>() > SENSOR_NAME_MAX {
            return Err(format!("makes a name of more than {SENSOR_NAME_MAX} bytes"));
        }
        Ok(Self { parts })
    }

    /// The name, if it takes no capture.
    pub fn fixed(&self) -> Option<&str> {
        match &self.parts[..] {
            [Part::Literal(name)] => Some(name),
            _ => None,
        }
    }

    /// The names of the captures that it takes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The name with `value` for every capture.
    pub fn fill(&self, value: impl fmt::Display) -> String {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Capture(_) => name.push_str(&value.to_string()),
            }
        }
        name
    }

    /// Writes the sensor's name for `topic` into `name`, which is cleared first.
    ///
    /// False, and `name` unusable, if `topic` is not one of `pattern`'s or a
    /// captured level is empty.
    pub fn render(&self, pattern: &TopicPattern, topic: &str, name: &mut String) -> bool {
        name.clear();
        for part in &self.parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Capture(capture) => match pattern.capture(capture, topic) {
                    None | Some("") => return false,
                    Some(level) => name.push_str(level),
                },
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_sensor(pattern: &str, template: &str, topic: &str, expected: Option<&str>) {
        let pattern = TopicPattern::parse(pattern).unwrap();
        let template = SensorTemplate::parse(template).unwrap();
        let mut name = "left over".to_owned();
        let found = pattern.is_match(topic) && template.render(&pattern, topic, &mut name);
        assert_eq!(
            found.then_some(name.as_str()),
            expected,
            "{pattern} on {topic}"
        );
    }

    #[test]
    fn captures_make_the_sensors_name() {
        check_sensor("sensors/{sensor}", "{sensor}", "sensors/p1", Some("p1"));
        check_sensor(
            "{line}/+/{n}/#",
            "{n}-of-{line}",
            "a/b/c/d/e",
            Some("c-of-a"),
        );
        check_sensor("{line}/+/{n}/#", "{n}-of-{line}", "a/b/c", Some("c-of-a"));
        check_sensor("plant/#", "all", "plant", Some("all"));
        check_sensor("plant/temperature", "t1", "plant/temperature", Some("t1"));
    }

    #[test]
    fn a_name_that_no_sensor_may_have_is_no_template() {
        let check = |text: &str, is_good| {
            assert_eq!(SensorTemplate::parse(text).is_ok(), is_good, "{text}");
        };
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
        check(&("{machine}".to_owned() + &"x".repeat(63)), true);
        check(&("{machine}".to_owned() + &"x".repeat(64)), false);
    }

    #[test]
    fn other_topics_do_not_match() {
        check_sensor("sensors/{sensor}", "{sensor}", "sensors", None);
        check_sensor("sensors/{sensor}", "{sensor}", "sensors/a/b", None);
        check_sensor("sensors/{sensor}", "{sensor}", "sensors/", None);
        check_sensor("sensors/{sensor}", "{sensor}", "Sensors/a", None);
        check_sensor("{top}/{sensor}", "{sensor}", "$SYS/uptime", None);
        check_sensor("#", "all", "$SYS/uptime", None);
    }

    #[test]
    fn a_shared_subscription_is_of_the_topics_behind_its_group() {
        let pattern = "$share/harks/plant/{sensor}";
        check_sensor(pattern, "{sensor}", "plant/p1", Some("p1"));
        check_sensor(pattern, "{sensor}", "plant/p1/x", None);
        check_sensor(pattern, "{sensor}", "$share/harks/plant/p1", None);
        check_sensor("$share/harks/#", "all", "a/b", Some("all"));
        check_sensor("$share/harks/#", "all", "$SYS/uptime", None);
        let pattern = TopicPattern::parse(pattern).unwrap();
        assert_eq!(pattern.filter(), "$share/harks/plant/+");
        assert_eq!(pattern.to_string(), "$share/harks/plant/{sensor}");
        for wrong in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/{g}/a",
        ] {
            let said = TopicPattern::parse(wrong).unwrap_err();
            assert!(said.contains("$share"), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_filter_is_what_the_broker_understands() {
        let pattern = TopicPattern::parse("plant/{line}/+/{node}/#").unwrap();
        assert_eq!(pattern.filter(), "plant/+/+/+/#");
        assert_eq!(pattern.to_string(), "plant/{line}/+/{node}/#");
        assert_eq!(pattern.names().collect::<Vec<_>>(), ["line", "node"]);
    }
}
