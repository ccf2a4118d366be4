//! What a model file may claim before anything is allocated on its word.

/// Upper bounds a header is held to. Real models stay far below each of them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// GGUF: bytes before the tensor data (metadata, tokenizer and tensor directory together).
    pub gguf_header_bytes_max: u64,
    /// GGUF: number of metadata entries.
    pub metadata_entries_max: u64,
    /// GGUF: bytes of one metadata key.
    pub key_bytes_max: u64,
    /// GGUF: bytes of one string value; a chat template is the longest in practice.
    pub string_bytes_max: u64,
    /// GGUF: elements of one array; a vocabulary is the longest in practice.
    pub array_elements_max: u64,
    /// GGUF: how deep arrays may hold arrays.
    pub array_depth_max: usize,
    /// GGUF: largest alignment of the tensor data.
    pub alignment_max: u64,
    /// Both formats: number of tensors, over all files of a model.
    pub tensors_max: u64,
    /// Both formats: bytes of one tensor name.
    pub tensor_name_bytes_max: u64,
    /// Both formats: axes of one tensor.
    pub tensor_axes_max: usize,
    /// safetensors: bytes of the JSON header of one file.
    pub safetensors_header_bytes_max: u64,
    /// Folder: number of shard files.
    pub shards_max: usize,
    /// Folder: bytes of `tokenizer.json`.
    pub tokenizer_bytes_max: u64,
    /// Folder: bytes of every other side file (`config.json`, chat template, index, …).
    pub side_file_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gguf_header_bytes_max: 128 << 20,
            metadata_entries_max: 16_384,
            key_bytes_max: 1_024,
            string_bytes_max: 4 << 20,
            array_elements_max: 4 << 20,
            array_depth_max: 4,
            alignment_max: 65_536,
            tensors_max: 65_536,
            tensor_name_bytes_max: 256,
            tensor_axes_max: 4,
            safetensors_header_bytes_max: 32 << 20,
            shards_max: 512,
            tokenizer_bytes_max: 128 << 20,
            side_file_bytes_max: 16 << 20,
        }
    }
}
