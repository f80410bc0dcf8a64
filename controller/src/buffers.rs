//! The controller's data buffers, and when it tells the host that they are free again.
//!
//! Spec: Core 5.4, Vol 4, Part E, 4.1 (flow control) and 7.7.19 (Number Of Completed Packets).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::profile::Profile;
use crate::types::{ConnHandle, LinkKind};

/// When a controller acknowledges data packets, with Number Of Completed Packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckPolicy {
    /// Each packet as soon as it is passed on.
    #[default]
    Immediate,
    /// Each packet this long after it came.
    After(Duration),
    /// Nothing until this many packets of one pool are outstanding under this policy, then all of them at once. More than the pool
    /// holds (or 0) never comes about.
    Batch(u16),
    /// Nothing but on [`Air::flush_acks`](crate::Air::flush_acks).
    OnCommand,
    /// Nothing at all, not even on `flush_acks`.
    Never,
}

/// Buffers that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// BR/EDR ACL data.
    Acl,
    /// SCO and eSCO data.
    Sco,
    /// LE ACL data, if the controller counts it apart.
    Le,
    /// Isochronous data.
    Iso,
}

/// A packet that holds a buffer.
#[derive(Debug)]
struct Outstanding {
    handle: ConnHandle,
    pool: Pool,
    /// When it is to be acknowledged, if the policy sets a time.
    due: Option<Duration>,
    /// It never arrived; the host alone believes that it holds a buffer.
    lost: bool,
}

/// Packets of one handle that one event acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) handle: ConnHandle,
    pub(crate) pool: Pool,
    pub(crate) packets: u16,
}

/// The buffers of one controller.
#[derive(Debug)]
pub(crate) struct Buffers {
    capacity: BTreeMap<Pool, u16>,
    outstanding: VecDeque<Outstanding>,
    policy: AckPolicy,
    of_link: BTreeMap<ConnHandle, AckPolicy>,
}

impl Buffers {
    pub(crate) fn new(profile: &Profile) -> Self {
        let capacity = BTreeMap::from([
            (Pool::Acl, profile.acl.packets),
            (Pool::Sco, profile.sco.packets.min(u8::MAX.into())),
            (Pool::Le, profile.le.packets.min(u8::MAX.into())),
            (Pool::Iso, profile.iso.packets.min(u8::MAX.into())),
        ]);
        Self {
            capacity,
            outstanding: VecDeque::new(),
            policy: profile.ack,
            of_link: BTreeMap::new(),
        }
    }

    /// The pool that a link of this kind takes from.
    pub(crate) fn pool(&self, kind: LinkKind) -> Pool {
        match kind {
            LinkKind::Le if self.capacity(Pool::Le) > 0 => Pool::Le,
            LinkKind::Acl | LinkKind::Le => Pool::Acl,
            LinkKind::Sco | LinkKind::Esco => Pool::Sco,
            LinkKind::Cis | LinkKind::Bis => Pool::Iso,
        }
    }

    fn capacity(&self, pool: Pool) -> u16 {
        self.capacity.get(&pool).copied().unwrap_or(0)
    }

    /// How many buffers of a pool are free.
    pub(crate) fn free(&self, pool: Pool) -> u16 {
        let taken = self
            .outstanding
            .iter()
            .filter(|packet| packet.pool == pool)
            .count();
        let taken = u16::try_from(taken).unwrap_or(u16::MAX);
        self.capacity(pool).saturating_sub(taken)
    }

    /// Puts a packet into a buffer; `false` if none is free.
    pub(crate) fn take(&mut self, handle: ConnHandle, pool: Pool, now: Duration) -> bool {
        if self.free(pool) == 0 {
            return false;
        }
        let due = match self.policy_of(handle) {
            AckPolicy::Immediate => Some(now),
            AckPolicy::After(delay) => Some(now.saturating_add(delay)),
            AckPolicy::Batch(_) | AckPolicy::OnCommand | AckPolicy::Never => None,
        };
        self.outstanding.push_back(Outstanding {
            handle,
            pool,
            due,
            lost: false,
        });
        if let AckPolicy::Batch(size) = self.policy_of(handle) {
            self.complete_batch(handle, pool, size, now);
        }
        true
    }

    /// Notes a packet that never arrived: to the host, it holds a buffer until its link ends.
    pub(crate) fn lose(&mut self, handle: ConnHandle, pool: Pool) {
        self.outstanding.push_back(Outstanding {
            handle,
            pool,
            due: None,
            lost: true,
        });
    }

    /// Makes the batch that `handle` counts in due, if it is full.
    fn complete_batch(&mut self, handle: ConnHandle, pool: Pool, size: u16, now: Duration) {
        let own = self.of_link.contains_key(&handle);
        let of_link = &self.of_link;
        let in_batch = |packet: &Outstanding| {
            packet.pool == pool
                && packet.due.is_none()
                && !packet.lost
                && if own {
                    packet.handle == handle
                } else {
                    !of_link.contains_key(&packet.handle)
                }
        };
        if self
            .outstanding
            .iter()
            .filter(|packet| in_batch(packet))
            .count()
            == usize::from(size)
        {
            let batch = self
                .outstanding
                .iter_mut()
                .filter(|packet| in_batch(packet));
            batch.for_each(|packet| packet.due = Some(now));
        }
    }

    fn policy_of(&self, handle: ConnHandle) -> AckPolicy {
        self.of_link.get(&handle).copied().unwrap_or(self.policy)
    }

    /// Sets the policy for packets to come: of one link, or of all that have none of their own.
    pub(crate) fn set_policy(&mut self, handle: Option<ConnHandle>, policy: AckPolicy) {
        match handle {
            Some(handle) => {
                self.of_link.insert(handle, policy);
            }
            None => self.policy = policy,
        }
    }

    /// When the next packet is to be acknowledged.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.outstanding
            .iter()
            .filter_map(|packet| packet.due)
            .min()
    }

    /// Frees the buffers of all packets that are due.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<Completed> {
        self.complete(|packet, _| packet.due.is_some_and(|due| due <= now))
    }

    /// Frees all buffers but those of links that are never acknowledged.
    pub(crate) fn flush(&mut self) -> Vec<Completed> {
        self.complete(|_, policy| policy != AckPolicy::Never)
    }

    fn complete(&mut self, done: impl Fn(&Outstanding, AckPolicy) -> bool) -> Vec<Completed> {
        let mut completed: Vec<Completed> = Vec::new();
        let mut left = VecDeque::new();
        for packet in std::mem::take(&mut self.outstanding) {
            if packet.lost || !done(&packet, self.policy_of(packet.handle)) {
                left.push_back(packet);
                continue;
            }
            match completed
                .iter_mut()
                .find(|entry| entry.handle == packet.handle)
            {
                Some(entry) => entry.packets += 1,
                None => completed.push(Completed {
                    handle: packet.handle,
                    pool: packet.pool,
                    packets: 1,
                }),
            }
        }
        self.outstanding = left;
        completed
    }

    /// Frees the buffers of a link that has ended, and says how many; the host does not hear of it, it counts them as free by itself.
    ///
    /// Spec: Core 5.4, Vol 4, Part E, 4.3 (packets of a disconnected handle are taken as flushed).
    pub(crate) fn forget(&mut self, handle: ConnHandle) -> u16 {
        let before = self.outstanding.len();
        self.outstanding.retain(|packet| packet.handle != handle);
        self.of_link.remove(&handle);
        u16::try_from(before - self.outstanding.len()).unwrap_or(u16::MAX)
    }

    /// Frees everything, as a reset does. The controller's policy stays, it is not the host's to change.
    pub(crate) fn reset(&mut self) {
        self.outstanding.clear();
        self.of_link.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BdAddr;

    const A: ConnHandle = ConnHandle(0x001);
    const B: ConnHandle = ConnHandle(0x002);
    const NOW: Duration = Duration::from_millis(11);

    fn buffers(policy: AckPolicy) -> Buffers {
        let mut buffers = Buffers::new(&Profile::bredr(BdAddr::default()));
        buffers.set_policy(None, policy);
        buffers
    }

    fn counts(completed: &[Completed]) -> Vec<(ConnHandle, u16)> {
        completed
            .iter()
            .map(|done| (done.handle, done.packets))
            .collect()
    }

    /// Check that a packet that was lost is never acknowledged, holds a buffer until its link ends, and is in no batch.
    #[test]
    fn lose_holds_a_buffer_until_the_link_ends() {
        let mut buffers = buffers(AckPolicy::Batch(2));
        buffers.lose(A, Pool::Acl);
        assert!((0..2).all(|_| buffers.take(A, Pool::Acl, NOW)));
        assert_eq!(counts(&buffers.take_due(NOW)), [(A, 2)]);
        assert_eq!(counts(&buffers.flush()), []);
        assert_eq!(buffers.free(Pool::Acl), 6);
        buffers.forget(A);
        assert_eq!(buffers.free(Pool::Acl), 7);
    }

    /// Check that a pool gives out exactly its buffers, and refuses the next packet.
    #[test]
    fn take_beyond_capacity_is_refused() {
        let mut buffers = buffers(AckPolicy::OnCommand);
        assert!((0..7).all(|_| buffers.take(A, Pool::Acl, NOW)));
        assert!(!buffers.take(A, Pool::Acl, NOW));
        assert_eq!(counts(&buffers.flush()), [(A, 7)]);
        assert_eq!(buffers.free(Pool::Acl), 7);
    }

    /// Check that a batch is acknowledged when it is full, in one go, over all links that share the policy.
    #[test]
    fn batch_full_completes_all_of_it() {
        let mut buffers = buffers(AckPolicy::Batch(3));
        assert!(buffers.take(A, Pool::Acl, NOW) && buffers.take(B, Pool::Acl, NOW));
        assert_eq!(counts(&buffers.take_due(NOW)), []);
        assert!(buffers.take(A, Pool::Acl, NOW));
        assert_eq!(counts(&buffers.take_due(NOW)), [(A, 2), (B, 1)]);
    }

    /// Check that a link's own policy takes it out of the controller's batch.
    #[test]
    fn batch_of_controller_leaves_links_with_own_policy_out() {
        let mut buffers = buffers(AckPolicy::Batch(2));
        buffers.set_policy(Some(B), AckPolicy::Never);
        assert!(buffers.take(A, Pool::Acl, NOW) && buffers.take(B, Pool::Acl, NOW));
        assert_eq!(counts(&buffers.take_due(NOW)), []);
        assert!(buffers.take(A, Pool::Acl, NOW));
        assert_eq!(counts(&buffers.take_due(NOW)), [(A, 2)]);
        assert_eq!(counts(&buffers.flush()), []);
    }

    /// Check that a delayed acknowledgement is due at its time and not before.
    #[test]
    fn after_completes_at_its_time() {
        let delay = Duration::from_millis(13);
        let mut buffers = buffers(AckPolicy::After(delay));
        assert!(buffers.take(A, Pool::Acl, NOW));
        assert_eq!(buffers.next_due(), Some(NOW + delay));
        assert_eq!(
            counts(&buffers.take_due(NOW + delay - Duration::from_nanos(1))),
            []
        );
        assert_eq!(counts(&buffers.take_due(NOW + delay)), [(A, 1)]);
    }
}
