//! The calls of a run.

use super::machine::Ticket;

/// The calls that are under way, in places that are used again.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) places: Vec<Call>,
    pub(super) free: Vec<u32>,
    pub(super) under_way: usize,
}

#[derive(Clone, Default)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) came: u64,
    pub(super) work: f64,
    pub(super) server: usize,
    pub(super) began: u64,
    /// Counted on through all calls that have this place, so that a late event finds nobody.
    pub(super) attempt: u32,
    pub(super) attempts: u32,
    /// The server has taken it and will say nothing.
    pub(super) hangs: bool,
    pub(super) tried: Vec<usize>,
}

impl Calls {
    pub(super) fn take(&mut self, client: usize, now: u64, work: f64) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Call::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[number as usize];
        place.tried.clear();
        (place.client, place.came, place.work) = (client, now, work);
        (place.attempts, place.hangs) = (0, false);
        self.under_way += 1;
        number
    }

    pub(super) fn give_back(&mut self, number: u32) {
        let place = &mut self.places[number as usize];
        place.attempt = place.attempt.wrapping_add(1);
        self.free.push(number);
        self.under_way -= 1;
    }

    /// The call, if this attempt of it is the one under way.
    pub(super) fn get(&mut self, ticket: Ticket) -> Option<&mut Call> {
        let call = &mut self.places[ticket.call as usize];
        (call.attempt == ticket.attempt).then_some(call)
    }
}
