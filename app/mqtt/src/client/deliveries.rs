//! Letters on their way to a broker that comes and goes.
//!
//! They leave in order, and each is kept until the broker has answered for it.
//! The first `handed` of them are with the connection; when that is lost, none
//! is, and they are handed over again: at least once, in order. When there are
//! too many, the oldest that is not with the connection gives way.

use std::collections::VecDeque;

use super::Letter;
use crate::Session;

pub(super) struct Deliveries {
    letters: VecDeque<Kept>,
    handed: usize,
    /// Of posted letters; a greeting and a farewell come on top.
    max: usize,
    posted: usize,
}

struct Kept {
    letter: Letter,
    is_posted: bool,
    /// Of its packet, once it is handed over.
    id: u16,
    /// The code of its acknowledgement.
    answer: Option<u8>,
}

impl Deliveries {
    pub(super) fn new(max: usize) -> Self {
        Self {
            letters: VecDeque::new(),
            handed: 0,
            max,
            posted: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Letters posted and not answered for.
    pub(super) fn waiting(&self) -> usize {
        self.posted
    }

    /// Takes a letter in; returns the one that gives way for it, if one must:
    /// this one, if all others may be acknowledged at any moment.
    pub(super) fn post(&mut self, letter: Letter) -> Option<Letter> {
        let mut gone = None;
        if self.posted >= self.max {
            // Not one of the client's own, as its goodbye.
            let mut open = self.letters.iter().skip(self.handed);
            let Some(oldest) = open.position(|kept| kept.is_posted) else {
                return Some(letter);
            };
            let oldest = self.letters.remove(self.handed + oldest);
            let oldest = oldest.expect("it was found there");
            self.posted -= 1;
            gone = Some(oldest.letter);
        }
        self.letters.push_back(Kept::new(letter, true));
        self.posted += 1;
        gone
    }

    /// Puts a letter of the client's own before all that are not handed over.
    pub(super) fn put_next(&mut self, letter: Letter) {
        self.letters.insert(self.handed, Kept::new(letter, false));
    }

    /// Hands over what waits, as far as the session takes it.
    pub(super) fn hand_over(&mut self, session: &mut Session) {
        while session.has_room_at_least_once()
            && let Some(kept) = self.letters.get_mut(self.handed)
        {
            let Letter {
                topic,
                payload,
                is_retained,
                ..
            } = &kept.letter;
            let needed = session.room_needed(topic, payload).unwrap_or(usize::MAX);
            kept.answer = session.refusal(needed, *is_retained);
            if kept.answer.is_none() {
                match session.publish_at_least_once(topic, payload, *is_retained) {
                    Ok(id) => kept.id = id,
                    Err(_) => return,
                }
            }
            self.handed += 1;
        }
    }

    pub(super) fn handle_acknowledged(&mut self, id: u16, code: u8) {
        let mut handed = self.letters.iter_mut().take(self.handed);
        if let Some(kept) = handed.find(|kept| kept.id == id && kept.answer.is_none()) {
            kept.answer = Some(code);
        }
    }

    /// Whether [`poll_answered`](Self::poll_answered) has one.
    pub(super) fn has_answered(&self) -> bool {
        let front = self.letters.front();
        front.is_some_and(|kept| kept.answer.is_some())
    }

    /// The oldest letter, once it is answered, and the code: acknowledgements
    /// may come in any order, letters leave in theirs.
    pub(super) fn poll_answered(&mut self) -> Option<(Letter, u8)> {
        let code = self.letters.front()?.answer?;
        let kept = self.letters.pop_front()?;
        self.handed -= 1;
        self.posted -= usize::from(kept.is_posted);
        Some((kept.letter, code))
    }

    /// The connection is lost: no identifier of it means anything any more.
    ///
    /// What was acknowledged behind a letter that was not is sent again too:
    /// of two states of one topic the broker is to keep the later.
    pub(super) fn handle_down(&mut self) {
        let answered = self.letters.iter().take_while(|kept| kept.answer.is_some());
        self.handed = answered.count();
        for kept in self.letters.iter_mut().skip(self.handed) {
            kept.id = 0;
            kept.answer = None;
        }
        self.letters
            .retain(|kept| kept.is_posted || kept.answer.is_some());
    }
}

impl Kept {
    fn new(letter: Letter, is_posted: bool) -> Self {
        Self {
            letter,
            is_posted,
            id: 0,
            answer: None,
        }
    }
}
