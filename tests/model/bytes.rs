//! GGUF and safetensors files put together byte by byte, so that a test can get any single field wrong.

pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

/// ggml type ids.
pub const F32: u32 = 0;

/// A GGUF file in the making. Every count can be replaced by a lie.
#[derive(Debug, Clone)]
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    pub tensor_count: u64,
    pub entry_count: u64,
    pub entries: Vec<u8>,
    pub tensors: Vec<u8>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

impl Gguf {
    pub fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: 0,
            entry_count: 0,
            entries: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// A small file that is right in itself (it is no whole model): the ground the lies are planted on.
    pub fn sound() -> Self {
        Self::new()
            .string("general.architecture", "llama")
            .u32("llama.block_count", 1)
            .tensor("a.weight", &[8, 4], F32, 0)
            .tensor("b.weight", &[8], F32, 128)
            .data(160)
    }

    pub fn entry(mut self, key: &str, type_id: u32, payload: &[u8]) -> Self {
        self.entries.extend(string(key));
        self.entries.extend(type_id.to_le_bytes());
        self.entries.extend(payload);
        self.entry_count += 1;
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, U32, &value.to_le_bytes())
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        self.entry(key, STRING, &string(value))
    }

    /// `dims` innermost first, as the format has them.
    pub fn tensor(mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        self.tensors.extend(string(name));
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        for dim in dims {
            self.tensors.extend(dim.to_le_bytes());
        }
        self.tensors.extend(type_id.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub fn raw_tensors(mut self, bytes: &[u8]) -> Self {
        self.tensors.extend(bytes);
        self.tensor_count += 1;
        self
    }

    pub fn data(mut self, bytes: usize) -> Self {
        self.data = vec![0; bytes];
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.to_le_bytes());
        out.extend(self.entry_count.to_le_bytes());
        out.extend(&self.entries);
        out.extend(&self.tensors);
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }

    /// Byte offsets at which a section ends: magic, version, counts, metadata, tensor directory, data.
    pub fn boundaries(&self) -> Vec<usize> {
        let entries = 24 + self.entries.len();
        let tensors = entries + self.tensors.len();
        vec![0, 4, 8, 16, 24, entries, tensors, tensors.next_multiple_of(self.alignment), self.build().len()]
    }
}

pub fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

/// A safetensors file with this header and this many data bytes.
pub fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.resize(out.len() + data, 0);
    out
}

/// Where `part` first stands in `whole`.
pub fn find(whole: &[u8], part: &[u8]) -> usize {
    let found = whole.windows(part.len()).position(|window| window == part);
    found.unwrap_or_else(|| panic!("{:?} is not in the file", String::from_utf8_lossy(part)))
}
