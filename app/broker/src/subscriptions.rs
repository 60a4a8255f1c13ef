//! Who asks for which messages.
//!
//! Filters without a wildcard are found by the topic itself. Those with one are
//! held against each topic in turn: they are few by [`WILDCARDS_MAX`], and a
//! comparison mostly ends at its first byte that differs.

use std::collections::BTreeMap;

use crate::ClientKey;
use crate::limits::{
    SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_PER_CLIENT_MAX, WILDCARDS_MAX,
};
use crate::packet::Options;
use crate::topic::{has_wildcard, matches};

/// What a subscription takes beside the filter's bytes, which are there twice:
/// places in two maps, and in the list of who asks for the filter.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    exact: BTreeMap<Box<str>, Vec<Subscriber>>,
    wild: BTreeMap<Box<str>, Vec<Subscriber>>,
    count: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    pub(crate) client: ClientKey,
    pub(crate) options: Options,
}

/// Whether a filter was new to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Again,
}

fn cost(filter: &str) -> usize {
    2 * filter.len() + OVERHEAD_BYTES
}

impl Subscriptions {
    /// Notes that `client`, which has `of_client` subscriptions, asks for
    /// `filter`; nothing if there is no place for it.
    pub(crate) fn add(
        &mut self,
        filter: &str,
        subscriber: Subscriber,
        of_client: usize,
    ) -> Option<Added> {
        let is_wild = has_wildcard(filter);
        let wild_count = self.wild.len();
        let filters = self.filters(is_wild);
        if let Some(known) = filters.get_mut(filter) {
            let own = known.iter_mut().find(|s| s.client == subscriber.client);
            if let Some(own) = own {
                *own = subscriber;
                return Some(Added::Again);
            }
        } else if is_wild && wild_count >= WILDCARDS_MAX {
            return None;
        }
        if of_client >= SUBSCRIPTIONS_PER_CLIENT_MAX
            || self.count >= SUBSCRIPTIONS_MAX
            || self.bytes + cost(filter) > SUBSCRIPTION_BYTES_MAX
        {
            return None;
        }
        match self.filters(is_wild).get_mut(filter) {
            Some(known) => known.push(subscriber),
            None => {
                // As much as is needed: most filters have one that asks.
                let only = Vec::from([subscriber]);
                self.filters(is_wild).insert(filter.into(), only);
            }
        }
        self.count += 1;
        self.bytes += cost(filter);
        Some(Added::New)
    }

    /// Forgets what `client` asked for by `filter`, if it did.
    pub(crate) fn remove(&mut self, filter: &str, client: ClientKey) {
        let filters = self.filters(has_wildcard(filter));
        let Some(known) = filters.get_mut(filter) else {
            return;
        };
        let before = known.len();
        known.retain(|subscriber| subscriber.client != client);
        let removed = before - known.len();
        if known.is_empty() {
            filters.remove(filter);
        }
        self.count -= removed;
        self.bytes -= removed * cost(filter);
    }

    /// Everyone who asks for messages of `topic`, each as often as it does.
    pub(crate) fn matching(&self, topic: &str, mut take: impl FnMut(Subscriber)) {
        if let Some(subscribers) = self.exact.get(topic) {
            subscribers.iter().for_each(|one| take(*one));
        }
        let wild = self.wild.iter();
        wild.filter(|(filter, _)| matches(filter, topic))
            .flat_map(|(_, subscribers)| subscribers)
            .for_each(|one| take(*one));
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn filters(&mut self, is_wild: bool) -> &mut BTreeMap<Box<str>, Vec<Subscriber>> {
        if is_wild {
            &mut self.wild
        } else {
            &mut self.exact
        }
    }
}
