//! Reads the frames of a websocket as the kernel takes them, and so knows which Engine.IO packets have left whole.

/// The opcode of a text frame that is not continued.
const WHOLE_TEXT: u8 = 0x81;

/// The bytes that end the head of an HTTP answer.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Follows the bytes that a server writes to one websocket, from the head of its HTTP answer on.
#[derive(Debug, Default)]
pub(super) struct WrittenFrames {
    part: Part,
    /// The frame's first byte.
    opcode: u8,
    /// How many bytes of the present part are still to come. In [`Part::HttpHead`], how many bytes of the head's end
    /// were seen.
    count: u64,
    /// The first two bytes of the payload, as many as have come.
    kind: [u8; 2],
    kind_length: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    HttpHead,
    Opcode,
    Length,
    /// The longer form of the length, with its value so far.
    LongLength(u64),
    Payload,
}

impl WrittenFrames {
    /// Takes the bytes that were written. Answers how many Socket.IO events and answers ended in them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut ended = 0;
        while let Some((first, rest)) = bytes.split_first() {
            bytes = match self.part {
                Part::Payload => self.take_payload(bytes),
                _ => {
                    self.take_head(*first);
                    rest
                }
            };
            if self.part == Part::Payload && self.count == 0 {
                ended += u64::from(self.is_event_or_answer());
                self.part = Part::Opcode;
            }
        }
        ended
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.part == Part::Opcode
    }

    fn take_head(&mut self, byte: u8) {
        match self.part {
            Part::HttpHead => self.take_http(byte),
            Part::Opcode => {
                self.opcode = byte;
                self.kind_length = 0;
                self.part = Part::Length;
            }
            Part::Length => match byte & 0x7f {
                126 => (self.part, self.count) = (Part::LongLength(0), 2),
                127 => (self.part, self.count) = (Part::LongLength(0), 8),
                length => (self.part, self.count) = (Part::Payload, length.into()),
            },
            Part::LongLength(value) => {
                let value = (value << 8) | u64::from(byte);
                self.count -= 1;
                match self.count {
                    0 => (self.part, self.count) = (Part::Payload, value),
                    _ => self.part = Part::LongLength(value),
                }
            }
            Part::Payload => {}
        }
    }

    fn take_http(&mut self, byte: u8) {
        let seen = usize::try_from(self.count).unwrap_or_default();
        self.count = match END_OF_HEAD.get(seen) {
            Some(expected) if *expected == byte => self.count + 1,
            _ => u64::from(byte == b'\r'),
        };
        if self.count == END_OF_HEAD.len() as u64 {
            self.part = Part::Opcode;
        }
    }

    fn take_payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.count).unwrap_or(usize::MAX).min(bytes.len());
        let (payload, rest) = bytes.split_at(length);
        for byte in payload.iter().take(self.kind.len()) {
            if let Some(place) = self.kind.get_mut(usize::from(self.kind_length)) {
                *place = *byte;
                self.kind_length += 1;
            }
        }
        self.count -= length as u64;
        rest
    }

    fn is_event_or_answer(&self) -> bool {
        self.opcode == WHOLE_TEXT && self.kind_length == 2 && matches!(&self.kind, b"42" | b"43")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";

    fn text(payload: &str) -> Vec<u8> {
        let length = payload.len();
        let mut frame = vec![WHOLE_TEXT];
        match length {
            0..=125 => frame.push(length as u8),
            126..=65_535 => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload.as_bytes());
        frame
    }

    fn event(length: usize) -> String {
        format!("42[\"{}\"]", "x".repeat(length))
    }

    #[test]
    fn events_and_answers_count_once_their_last_byte_is_out_whatever_the_pieces() {
        let packets = [
            "0{\"sid\":\"42\"}".to_owned(),
            "2".to_owned(),
            "40{\"sid\":\"x\"}".to_owned(),
            event(1),
            "43[]".to_owned(),
            event(100),
            event(200),
            String::new(),
            event(70_000),
            "4".to_owned(),
            "41".to_owned(),
        ];
        let mut written = HEAD.to_vec();
        let mut ends = Vec::new();
        for packet in &packets {
            written.extend(text(packet));
            if packet.starts_with("42") || packet.starts_with("43") {
                ends.push(written.len());
            }
        }
        // A ping of the websocket whose payload looks like the beginning of an event.
        written.extend([0x89, 2, b'4', b'2']);
        for piece in [1, 2, 3, 7, 1_000, written.len()] {
            let mut frames = WrittenFrames::default();
            let (mut at, mut counted) = (0, 0);
            for bytes in written.chunks(piece) {
                at += bytes.len();
                counted += frames.take(bytes);
                assert_eq!(counted, ends.iter().filter(|end| **end <= at).count() as u64, "{at} by {piece}");
            }
            assert!(frames.is_between_frames());
        }
    }

    #[test]
    fn a_frame_begins_only_where_the_one_before_has_ended() {
        let mut frames = WrittenFrames::default();
        frames.take(&HEAD[..HEAD.len() - 1]);
        assert!(!frames.is_between_frames());
        frames.take(&HEAD[HEAD.len() - 1..]);
        assert!(frames.is_between_frames());
        let frame = text(&event(300));
        for (index, byte) in frame.iter().enumerate() {
            frames.take(&[*byte]);
            assert_eq!(frames.is_between_frames(), index + 1 == frame.len(), "after {index}");
        }
    }
}
