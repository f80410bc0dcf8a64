//! Processes that send packets past the kernel's scheduler: through raw HCI sockets, or in the kernel's place.

use crate::evidence::Evidence;
use evidence::{HciChannel, Period, Scenario, Step};
use std::collections::BTreeMap;

/// What processes did with one device, and when.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Steps in which one sent packets, and nobody else did.
    steps: Vec<(Period, HciChannel)>,
    /// From when on one drives the device, if one does at the end.
    user_since_ns: Option<i64>,
}

impl Processes {
    /// Those of hciN, the device of the N-th controller.
    pub(super) fn of(scenario: &Scenario, evidence: &Evidence, hci: u16) -> Self {
        let mut found = Self::default();
        let mut open = BTreeMap::new();
        for (step, period) in scenario.steps.iter().zip(&evidence.steps) {
            match step {
                Step::OpenHci {
                    socket,
                    controller,
                    channel,
                } if *controller == usize::from(hci) => {
                    open.insert(socket, *channel);
                    if *channel == HciChannel::User {
                        found.user_since_ns = Some(period.began_ns);
                    }
                }
                Step::Close { socket } => {
                    let is_user = open.remove(socket) == Some(HciChannel::User);
                    found.user_since_ns = found.user_since_ns.filter(|_| !is_user);
                }
                Step::DriveDevice { socket, .. }
                | Step::EchoBeside { socket, .. }
                | Step::SendOn { from: socket, .. } => {
                    let channel = open.get(socket);
                    found
                        .steps
                        .extend(channel.map(|channel| (*period, *channel)));
                }
                _ => {}
            }
        }
        found
    }

    /// Who sent what the controller got at that time, if it was a process.
    pub(super) fn at(&self, at_ns: i64) -> Option<HciChannel> {
        let within = |period: &Period| (period.began_ns..=period.ended_ns).contains(&at_ns);
        let mut steps = self.steps.iter();
        steps
            .find(|(period, _)| within(period))
            .map(|found| found.1)
    }

    /// From when on a process drives the device, if one does at the end.
    pub(super) fn user_since_ns(&self) -> Option<i64> {
        self.user_since_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that packets are a process's while its step lasts, on its device alone, and that a closed socket drives nothing.
    #[test]
    fn processes_send_while_their_steps_last() {
        let socket = || "user".to_owned();
        let open = Step::OpenHci {
            socket: socket(),
            controller: 2,
            channel: HciChannel::User,
        };
        let drive = Step::DriveDevice {
            socket: socket(),
            peer: 0,
            echoes: 3,
        };
        let close = Step::Close { socket: socket() };
        let period = |began_ns, ended_ns| Period { began_ns, ended_ns };
        let mut scenario = crate::scenarios::all().remove(0);
        scenario.steps = vec![open, drive, close];
        let mut evidence = Evidence {
            steps: vec![period(5, 9), period(10, 20), period(30, 31)],
            ..Evidence::default()
        };
        let found = Processes::of(&scenario, &evidence, 2);
        assert_eq!((found.at(9), found.at(20)), (None, Some(HciChannel::User)));
        assert_eq!(found.user_since_ns(), None);
        assert_eq!(Processes::of(&scenario, &evidence, 1).at(15), None);
        evidence.steps.pop();
        let found = Processes::of(&scenario, &evidence, 2);
        assert_eq!(found.user_since_ns(), Some(5));
    }
}
