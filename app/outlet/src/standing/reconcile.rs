//! What an earlier hark left, held against the configuration of this one.

use super::{Carried, Post};
use crate::alert_text;
use hark_engine::{AlertKind, AlertState};
use hark_serve::report::{AlertAbout, AlertId, AlertReport, AlertTime, Standing};
use serde::Deserialize;

/// What is no more, and how that is told.
pub struct Over {
    /// Its topic, which is to be emptied.
    pub topic: String,
    /// Of an alert: what is to be said of its end.
    pub report: Option<AlertReport>,
}

/// What is read of the payload of an alert that stands.
#[derive(Deserialize)]
struct Payload {
    kind: String,
    sensor: String,
    source: String,
}

/// Goes through what stands. `keep` takes in an alert that may still hold, and says
/// whether there is anybody who will clear it; `states` are the topics of states that
/// there are now. Returns the rest. `now_utc_us` is when it is told.
pub fn reconcile(
    carried: &Carried,
    root: &str,
    states: &[String],
    mut keep: impl FnMut(&Standing) -> bool,
    now_utc_us: i64,
) -> Vec<Over> {
    let mut over = Vec::new();
    for post in newest(carried).filter(|post| post.stands) {
        let Some(standing) = standing_of(post) else {
            if !states.contains(&post.topic) {
                let topic = post.topic.clone();
                over.push(Over {
                    topic,
                    report: None,
                });
            }
            continue;
        };
        let topic = alert_text::topic(root, &standing.sensor, standing.kind.name());
        if topic != post.topic || !keep(&standing) {
            over.push(Over {
                topic: post.topic.clone(),
                report: Some(end_of(&standing, now_utc_us)),
            });
        }
    }
    over
}

/// The newest post of each topic.
fn newest(carried: &Carried) -> impl Iterator<Item = &Post> {
    let mut newest = std::collections::BTreeMap::new();
    for post in &carried.posts {
        newest.insert(&post.topic, post);
    }
    newest.into_values()
}

/// The alert of a post; none if it is a state.
fn standing_of(post: &Post) -> Option<Standing> {
    let payload: Payload = serde_json::from_str(&post.payload).ok()?;
    Some(Standing {
        kind: AlertKind::of_name(&payload.kind)?,
        sensor: payload.sensor,
        source: payload.source,
    })
}

fn end_of(standing: &Standing, now_utc_us: i64) -> AlertReport {
    AlertReport {
        id: AlertId::default(),
        kind: standing.kind.name(),
        state: AlertState::Cleared.name(),
        time: AlertTime::of_receipt(now_utc_us),
        sensor: standing.sensor.as_str().into(),
        source: standing.source.as_str().into(),
        seq: None,
        ts: None,
        row: None,
        about: AlertAbout::Gone {
            reason: "it is no longer configured",
        },
    }
    .identified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(number: u64, topic: &str, payload: &str, stands: bool) -> Post {
        Post {
            number,
            topic: topic.to_owned(),
            payload: payload.to_owned(),
            stands,
            is_settled: true,
        }
    }

    fn raised(number: u64, topic: &str, kind: &str, sensor: &str) -> Post {
        let payload = format!(r#"{{"kind":"{kind}","sensor":"{sensor}","source":"line","seq":7}}"#);
        post(number, topic, &payload, true)
    }

    #[test]
    fn what_nobody_will_clear_is_over_and_the_rest_stands() {
        let carried = Carried {
            posts: vec![
                raised(1, "r/alert/a", "anomaly", "a"),
                raised(2, "r/alert/a/range", "range", "a"),
                raised(3, "r/alert/gone", "anomaly", "gone"),
                raised(4, "old/alert/a", "anomaly", "a"),
                raised(5, "r/alert/b", "anomaly", "b"),
                post(6, "r/alert/b", "{}", false),
                post(7, "r/link/line", "", true),
                post(8, "r/link/removed", "", true),
            ],
        };
        let mut standing = Vec::new();
        let keep = |alert: &Standing| {
            standing.push((alert.kind, alert.sensor.clone()));
            alert.sensor != "gone"
        };
        let over = reconcile(&carried, "r", &["r/link/line".to_owned()], keep, 0);
        let over: Vec<_> = over
            .iter()
            .map(|over| (over.topic.as_str(), over.report.is_some()))
            .collect();
        assert_eq!(
            over,
            [
                ("old/alert/a", true),
                ("r/alert/gone", true),
                ("r/link/removed", false)
            ]
        );
        let kinds = [AlertKind::Anomaly, AlertKind::Range, AlertKind::Anomaly];
        let names = ["a", "a", "gone"].map(str::to_owned);
        assert_eq!(standing, kinds.into_iter().zip(names).collect::<Vec<_>>());
    }
}
