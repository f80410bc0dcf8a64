//! What a host asks of the device itself: descriptors, configurations, alternate settings, streams.

use std::time::Duration;

use super::{Dongle, h4};
use crate::hci::wire::Rest;
use crate::transport::usbredir::descriptors::{self, SCO_IN};
use crate::transport::usbredir::wire::{
    AltSettingStatus, ConfigurationStatus, Control, InterruptReceivingStatus, IsoStreamStatus,
    Message, Packet, status,
};
use crate::transport::usbredir::{UsbEndpoint, UsbFaultAction};
use crate::types::PacketKind;

/// Control requests: USB 2.0, 9.4.
mod request {
    pub(super) const GET_STATUS: u8 = 0;
    pub(super) const CLEAR_FEATURE: u8 = 1;
    pub(super) const SET_FEATURE: u8 = 3;
    pub(super) const GET_DESCRIPTOR: u8 = 6;
    /// Bits 5 and 6 of the request type: standard, class or vendor.
    pub(super) const TYPE_MASK: u8 = 0x60;
    pub(super) const CLASS_TO_DEVICE: u8 = 0x20;
}

impl Dongle {
    /// Configurations, alternate settings, streams.
    pub(super) fn configure(&mut self, id: u64, message: &Message, now: Duration) {
        let success = status::SUCCESS;
        let answer = match message {
            Message::SetConfiguration(set) => {
                self.forget();
                self.configuration = set.configuration;
                self.tell_interfaces();
                self.configuration_status()
            }
            Message::GetConfiguration => self.configuration_status(),
            Message::SetAltSetting(set) => self.set_alt(set.interface, set.alt),
            Message::GetAltSetting(get) => self.alt_status(get.interface, success),
            Message::StartIsoStream(start) => {
                if start.endpoint == SCO_IN {
                    self.voice_in.start(now);
                }
                stream_status(start.endpoint)
            }
            Message::StopIsoStream(stop) => {
                match stop.endpoint {
                    SCO_IN => self.voice_in.stop(),
                    _ => self.voice_out.clear(),
                }
                stream_status(stop.endpoint)
            }
            Message::StartInterruptReceiving(start) => {
                self.events.receiving = true;
                self.events.holding_until = None;
                receiving_status(start.endpoint)
            }
            Message::StopInterruptReceiving(stop) => {
                self.events.receiving = false;
                receiving_status(stop.endpoint)
            }
            _ => return,
        };
        self.answer(&Packet {
            id,
            message: answer,
        });
        self.advance(now);
    }

    fn set_alt(&mut self, interface: u8, alt: u8) -> Message {
        let known = match interface {
            0 => alt == 0,
            1 => usize::from(alt) < descriptors::SCO_PACKET_BYTES.len(),
            _ => false,
        };
        if !known {
            return self.alt_status(interface, status::INVALID);
        }
        if interface == 1 {
            let wants_voice = alt > 0;
            if wants_voice
                && self.faults.strike(UsbEndpoint::ScoOut) == Some(UsbFaultAction::NoRoom)
            {
                return self.alt_status(interface, status::STALL);
            }
            self.alt = alt;
            self.voice_in.stop();
            self.voice_out.clear();
        }
        self.tell_interfaces();
        self.alt_status(interface, status::SUCCESS)
    }

    fn alt_status(&self, interface: u8, status: u8) -> Message {
        let alt = if interface == 1 { self.alt } else { 0 };
        Message::AltSettingStatus(AltSettingStatus {
            status,
            interface,
            alt,
        })
    }

    fn configuration_status(&self) -> Message {
        Message::ConfigurationStatus(ConfigurationStatus {
            status: status::SUCCESS,
            configuration: self.configuration,
        })
    }

    pub(super) fn control(&mut self, id: u64, mut control: Control, now: Duration) {
        if control.request_type == request::CLASS_TO_DEVICE && control.endpoint & 0x7f == 0 {
            let packet = h4(PacketKind::Command, &std::mem::take(&mut control.data.0));
            let answer = Packet {
                id,
                message: Message::Control(control),
            };
            self.commands.push(answer, packet);
            self.serve_out(UsbEndpoint::Commands, now);
            return;
        }
        let (status, mut data) = self.standard(&control);
        data.truncate(control.length.into());
        control.status = status;
        if control.request_type & 0x80 != 0 {
            control.length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        }
        control.data = Rest(data);
        let message = Message::Control(control);
        self.answer(&Packet { id, message });
    }

    /// Answers a standard request that the other end has not answered itself.
    fn standard(&self, control: &Control) -> (u8, Vec<u8>) {
        let [index, kind] = control.value.to_le_bytes();
        let is_standard = control.request_type & request::TYPE_MASK == 0;
        match (control.request, kind, index) {
            _ if !is_standard => (status::STALL, Vec::new()),
            (request::GET_DESCRIPTOR, 1, 0) => (status::SUCCESS, descriptors::device()),
            (request::GET_DESCRIPTOR, 2, 0) => {
                let descriptor = descriptors::configuration(self.settings.remote_wakeup);
                (status::SUCCESS, descriptor)
            }
            (request::GET_STATUS, ..) => (status::SUCCESS, vec![0, 0]),
            (request::CLEAR_FEATURE | request::SET_FEATURE, ..) => (status::SUCCESS, Vec::new()),
            _ => (status::STALL, Vec::new()),
        }
    }
}

fn stream_status(endpoint: u8) -> Message {
    Message::IsoStreamStatus(IsoStreamStatus {
        status: status::SUCCESS,
        endpoint,
    })
}

fn receiving_status(endpoint: u8) -> Message {
    Message::InterruptReceivingStatus(InterruptReceivingStatus {
        status: status::SUCCESS,
        endpoint,
    })
}
