//! SUBSCRIBEs that wait for their answer.

use crate::Full;
use crate::body::What;

/// How many may wait: one for each source of a thread, and each may hold any
/// number of filters.
const WAITING_MAX: usize = 16;

pub(crate) struct Subscribes {
    /// Each with its identifier and its number of filters.
    waiting: [Option<(u16, usize)>; WAITING_MAX],
    /// How many codes of the answer in front were already told.
    told: usize,
}

impl Subscribes {
    pub(crate) fn new() -> Self {
        Self {
            waiting: [None; WAITING_MAX],
            told: 0,
        }
    }

    /// Whether another may be sent.
    pub(crate) fn check_room(&self) -> Result<(), Full> {
        let waiting = self.waiting.iter().flatten().count();
        if waiting < WAITING_MAX {
            return Ok(());
        }
        Err(Full {
            needed: 1,
            room: 0,
            capacity: WAITING_MAX,
        })
    }

    pub(crate) fn contains(&self, id: u16) -> bool {
        self.waiting.iter().flatten().any(|(its, _)| *its == id)
    }

    pub(crate) fn handle_sent(&mut self, id: u16, filters: usize) {
        let mut slots = self.waiting.iter_mut();
        let free = slots.find(|slot| slot.is_none());
        *free.expect("room was asked for first") = Some((id, filters));
    }

    /// Which code of the answer to `id` is to be told next.
    pub(crate) fn code(&self, id: u16, codes: usize) -> Result<usize, What> {
        match self.waiting.iter().flatten().find(|(its, _)| *its == id) {
            Some((_, filters)) if *filters == codes => Ok(self.told),
            Some(_) => Err("it has not one code for each filter that was asked for"),
            None => Err("it answers something that was never sent"),
        }
    }

    /// Takes a code of `id` as told; whether it was the last.
    pub(crate) fn handle_told(&mut self, id: u16, codes: usize) -> bool {
        self.told += 1;
        if self.told < codes {
            return false;
        }
        self.told = 0;
        for slot in &mut self.waiting {
            slot.take_if(|(its, _)| *its == id);
        }
        true
    }
}
