//! Where bytes come from: memory we own, a file read with positioned reads (never mapped: a mapped file that shrinks
//! is a crash), or a block of noise that repeats; and a cursor over the header that trusts no length.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::error::HeaderError;

/// A model held in memory.
#[derive(Clone)]
pub enum ModelBytes {
    Embedded(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl std::fmt::Debug for ModelBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelBytes({} bytes)", self.as_slice().len())
    }
}

impl ModelBytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Embedded(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<&'static [u8]> for ModelBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Embedded(bytes)
    }
}

impl From<Vec<u8>> for ModelBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(bytes.into())
    }
}

impl From<Arc<[u8]>> for ModelBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

/// Bytes that can be read at any offset.
pub(super) enum Source {
    Memory(ModelBytes),
    File {
        file: File,
        bytes: u64,
    },
    /// One block over and over, `bytes` in all: noise as large as is wanted.
    Tiled {
        block: Arc<[u8]>,
        bytes: u64,
    },
}

impl Source {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self::File { file, bytes })
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.as_slice().len() as u64,
            Self::File { bytes, .. } | Self::Tiled { bytes, .. } => *bytes,
        }
    }

    /// Reads exactly `len` bytes at `offset`. The caller has checked both against [`Self::bytes`]; a file that
    /// shrank since then is an error, not a crash.
    pub fn read(&self, offset: u64, len: usize) -> std::io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(memory) => {
                let start = usize::try_from(offset).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
                let end = start.checked_add(len).ok_or(std::io::ErrorKind::UnexpectedEof)?;
                memory
                    .as_slice()
                    .get(start..end)
                    .map(Cow::Borrowed)
                    .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
            Self::File { file, .. } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(Cow::Owned(bytes))
            }
            Self::Tiled { block, .. } => {
                let mut bytes = Vec::with_capacity(len);
                let mut start = (offset % block.len() as u64) as usize;
                while bytes.len() < len {
                    let end = block.len().min(start + len - bytes.len());
                    bytes.extend_from_slice(&block[start..end]);
                    start = 0;
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// How much of a file the cursor reads ahead.
const READ_AHEAD_BYTES: u64 = 64 << 10;

/// Walks over a header. Every length is compared with what is left before it is believed.
pub(super) struct Cursor<'a> {
    source: &'a Source,
    position: u64,
    end: u64,
    window: Cow<'a, [u8]>,
    window_start: u64,
}

impl<'a> Cursor<'a> {
    /// Reads from the start of `source`, at most `bytes_max` bytes of it.
    pub fn new(source: &'a Source, bytes_max: u64) -> Self {
        let end = source.bytes().min(bytes_max);
        Self { source, position: 0, end, window: Cow::Borrowed(&[]), window_start: 0 }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn left(&self) -> u64 {
        self.end - self.position
    }

    /// The next `len` bytes.
    pub fn take(&mut self, what: &'static str, len: u64) -> Result<&[u8], HeaderError> {
        if len > self.left() {
            return Err(HeaderError::Truncated { what, offset: self.position, needed: len, left: self.left() });
        }
        let window_end = self.window_start + self.window.len() as u64;
        if self.position < self.window_start || self.position + len > window_end {
            let ahead = len.max(READ_AHEAD_BYTES).min(self.left());
            self.window = self.source.read(self.position, ahead as usize)?;
            self.window_start = self.position;
        }
        let start = (self.position - self.window_start) as usize;
        self.position += len;
        Ok(&self.window[start..start + len as usize])
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], HeaderError> {
        let bytes = self.take(what, N as u64)?;
        Ok(bytes.try_into().expect("take returns exactly the length asked for"))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, HeaderError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, HeaderError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things that each take at least `item_bytes_min` bytes of what is left.
    pub fn count(&mut self, what: &'static str, limit: u64, item_bytes_min: u64) -> Result<usize, HeaderError> {
        let offset = self.position;
        let found = self.u64(what)?;
        if found > limit {
            return Err(HeaderError::OverLimit { what, found, limit });
        }
        let needed = found.saturating_mul(item_bytes_min);
        if needed > self.left() {
            return Err(HeaderError::Truncated { what, offset, needed, left: self.left() });
        }
        Ok(found as usize)
    }

    pub fn string(&mut self, what: &'static str, bytes_max: u64) -> Result<String, HeaderError> {
        let len = self.count(what, bytes_max, 1)?;
        let offset = self.position;
        let bytes = self.take(what, len as u64)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(HeaderError::NotUtf8 { what, offset }),
        }
    }
}
