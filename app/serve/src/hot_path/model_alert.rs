//! That a model of the source is withheld: an alert that stands as long as one is.

use crate::bundle::{MODEL_RUNGS, Refused};
use hark_engine::{AlertState, ModelRung, Rung, StepReason};

/// What is known of the source's models, and what was said of them.
pub(super) struct ModelAlert {
    /// Those that are withheld, and why, by [`Rung`].
    withheld: [Option<String>; MODEL_RUNGS],
    /// Those of which nothing is known yet: one of them may be withheld, so that
    /// nothing is over.
    awaited: [bool; MODEL_RUNGS],
    state: AlertState,
    /// How often it was raised.
    pub(super) raised: u64,
}

impl ModelAlert {
    pub(super) fn new(models: &[ModelRung]) -> Self {
        let mut awaited = [false; MODEL_RUNGS];
        for model in models {
            awaited[model.rung as usize] = true;
        }
        Self {
            withheld: [const { None }; MODEL_RUNGS],
            awaited,
            state: AlertState::Cleared,
            raised: 0,
        }
    }

    /// It was raised before hark started.
    pub(super) fn handle_standing(&mut self) {
        self.state = AlertState::Raised;
    }

    /// The model of `rung` was loaded, or was not.
    pub(super) fn handle_loaded(&mut self, rung: Rung, refused: Option<&Refused>) {
        let withheld = refused.filter(|refused| refused.reason == StepReason::Withheld);
        self.withheld[rung as usize] = withheld.map(|refused| refused.text.clone());
        self.awaited[rung as usize] = false;
    }

    /// The rung that is withheld, the best of them, and why.
    pub(super) fn withheld(&self) -> Option<(Rung, &str)> {
        let rungs = [Rung::Delegate, Rung::Model, Rung::Previous];
        let mut rungs = rungs.into_iter().zip(&self.withheld);
        rungs.find_map(|(rung, why)| Some((rung, why.as_deref()?)))
    }

    /// The state that is to be said, if it is another.
    pub(super) fn poll_change(&mut self) -> Option<AlertState> {
        let state = match self.withheld() {
            Some(_) => AlertState::Raised,
            None if self.awaited.contains(&true) => self.state,
            None => AlertState::Cleared,
        };
        if state == self.state {
            return None;
        }
        self.raised += u64::from(state == AlertState::Raised);
        self.state = state;
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertState::{Cleared, Raised};

    fn alert(rungs: &[Rung]) -> ModelAlert {
        let model = |&rung| ModelRung {
            rung,
            score: hark_engine::ScoreSpec::Output {
                index: 0,
                negate: false,
            },
            threshold: 1.0,
            expires_utc_us: None,
            batch_max: 1,
        };
        ModelAlert::new(&rungs.iter().map(model).collect::<Vec<_>>())
    }

    fn refused(reason: StepReason) -> Refused {
        Refused {
            reason,
            text: reason.name().to_owned(),
        }
    }

    #[test]
    fn it_is_raised_while_a_model_is_withheld() {
        let mut alert = alert(&[Rung::Model, Rung::Previous]);
        alert.handle_loaded(Rung::Previous, None);
        assert_eq!(alert.poll_change(), None);
        let withheld = refused(StepReason::Withheld);
        alert.handle_loaded(Rung::Model, Some(&withheld));
        assert_eq!(alert.withheld(), Some((Rung::Model, "withheld")));
        assert_eq!(alert.poll_change(), Some(Raised));
        alert.handle_loaded(Rung::Model, Some(&withheld));
        assert_eq!(alert.poll_change(), None, "said once");
        alert.handle_loaded(Rung::Model, Some(&refused(StepReason::Corrupt)));
        assert_eq!(alert.poll_change(), Some(Cleared), "its file changed");
        assert_eq!(alert.raised, 1);
    }

    #[test]
    fn one_from_before_the_start_is_over_once_every_model_is_known_not_to_be() {
        let mut alert = alert(&[Rung::Model, Rung::Previous]);
        alert.handle_standing();
        alert.handle_loaded(Rung::Previous, None);
        assert_eq!(alert.poll_change(), None, "it may be the other one's");
        alert.handle_loaded(Rung::Model, None);
        assert_eq!(alert.poll_change(), Some(Cleared));
        assert_eq!(alert.raised, 0);
    }

    #[test]
    fn one_from_before_the_start_that_holds_is_not_said_again() {
        let mut alert = alert(&[Rung::Model]);
        alert.handle_standing();
        alert.handle_loaded(Rung::Model, Some(&refused(StepReason::Withheld)));
        assert_eq!(alert.poll_change(), None);
    }
}
