//! Cuts a byte stream into frames.

use bytes::{Buf, BytesMut};

use crate::frame::{Frame, FrameHeader, HEADER_BYTES};

/// Splits what was read so far into frames. The size limit is checked on the header, before any
/// memory is set aside for the body; the body of a frame that is too large is skipped as it
/// arrives.
#[derive(Debug)]
pub struct FrameCodec {
    body_bytes_max: u32,
    skip_bytes: u64,
}

/// What [`FrameCodec::cut`] found at the start of the buffer.
#[derive(Debug)]
pub enum Cut {
    /// A whole frame, removed from the buffer.
    Frame(Frame),
    /// A frame longer than the limit; its header is removed, its body will be skipped.
    TooLarge(FrameHeader),
    /// Protocol versions 1 and 2 have another header: nothing after this byte can be trusted.
    OldVersion(u8),
    /// More bytes are needed; the header, if that much is there.
    Incomplete(Option<FrameHeader>),
}

impl FrameCodec {
    /// Frames with bodies longer than `body_bytes_max` are refused.
    #[must_use]
    pub fn new(body_bytes_max: u32) -> Self {
        Self { body_bytes_max, skip_bytes: 0 }
    }

    /// Takes the next frame off the front of `buffer`. The body is a slice of the buffer.
    pub fn cut(&mut self, buffer: &mut BytesMut) -> Cut {
        self.skip(buffer);
        if let Some(&version) = buffer.first()
            && version & 0x7f < 3
        {
            return Cut::OldVersion(version & 0x7f);
        }
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
            return Cut::Incomplete(None);
        };
        let header = FrameHeader::decode(header);
        if header.body_bytes > self.body_bytes_max {
            self.skip_frame(header, buffer);
            return Cut::TooLarge(header);
        }
        let body_bytes = usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
        let needed = body_bytes.saturating_add(HEADER_BYTES);
        if buffer.len() < needed {
            return Cut::Incomplete(Some(header));
        }
        buffer.advance(HEADER_BYTES);
        Cut::Frame(Frame { header, body: buffer.split_to(body_bytes).freeze() })
    }

    /// Drops a frame that [`FrameCodec::cut`] found incomplete, the rest of it as it arrives.
    pub fn skip_frame(&mut self, header: FrameHeader, buffer: &mut BytesMut) {
        buffer.advance(HEADER_BYTES.min(buffer.len()));
        self.skip_bytes = u64::from(header.body_bytes);
        self.skip(buffer);
    }

    fn skip(&mut self, buffer: &mut BytesMut) {
        let length = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(buffer.len());
        buffer.advance(length);
        self.skip_bytes = self.skip_bytes.saturating_sub(u64::try_from(length).unwrap_or(0));
    }
}
