//! Who is at the door of a core when no place is left: whoever has waited longest for its next request, or for the rest of
//! its head, gives its place to whoever comes. Idle connections that clients keep would else shut everybody out for a
//! minute, health checks first.

use crate::connection::Connection;
use crate::limits::{CONNECTIONS_LEAVING_MAX, CONNECTIONS_LOOKED_AT_MAX};
use parking_lot::Mutex;
use std::sync::Arc;

/// The connections of one kind on one core.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<Member>>,
    free: Vec<usize>,
    /// Where the next search begins.
    at: usize,
    /// Connections that were asked to go and have not.
    leaving: usize,
}

#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    is_leaving: bool,
}

/// A place among them; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    at: usize,
}

impl Crowd {
    pub(crate) fn join(self: &Arc<Self>, connection: Arc<Connection>) -> Place {
        let member = Member {
            connection,
            is_leaving: false,
        };
        let places = &mut *self.0.lock();
        let at = match places.free.pop() {
            Some(at) => {
                places.taken[at] = Some(member);
                at
            }
            None => {
                places.taken.push(Some(member));
                places.taken.len() - 1
            }
        };
        let crowd = Arc::clone(self);
        Place { crowd, at }
    }

    /// Asks one that waits to go: of some that are looked at, the one that has waited longest. `false` if none of them
    /// waits.
    pub(crate) fn make_room(&self) -> bool {
        let places = &mut *self.0.lock();
        if places.leaving >= CONNECTIONS_LEAVING_MAX {
            return false;
        }
        let count = places.taken.len();
        let looked_at = (0..count.min(CONNECTIONS_LOOKED_AT_MAX)).map(|n| (places.at + n) % count);
        let waiting = looked_at.filter_map(|at| {
            let member = places.taken[at].as_ref().filter(|it| !it.is_leaving)?;
            Some((member.connection.waits_since()?, at))
        });
        let longest = waiting.min();
        places.at = (places.at + CONNECTIONS_LOOKED_AT_MAX) % count.max(1);
        let Some(member) = longest.and_then(|(_, at)| places.taken[at].as_mut()) else {
            return false;
        };
        member.is_leaving = true;
        places.leaving += 1;
        member.connection.ask_to_go();
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &mut *self.crowd.0.lock();
        let gone = places.taken[self.at].take();
        places.leaving -= usize::from(gone.is_some_and(|member| member.is_leaving));
        places.free.push(self.at);
    }
}
