//! Crafted headers: each is an error that says what was found, none panics or allocates on the file's word.

use std::fs;

use super::*;

/// Writes GGUF bytes field by field.
#[derive(Clone)]
struct Gguf(Vec<u8>);

const U8: u32 = 0;
const I32: u32 = 5;
const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Gguf {
    fn header(version: u32, tensors: u64, entries: u64) -> Self {
        Gguf(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn entry(self, key: &str, type_id: u32) -> Self {
        self.text(key).u32(type_id)
    }

    /// `shape` innermost axis first, as GGUF has it.
    fn tensor(self, name: &str, shape: &[u64], type_id: u32, offset: u64) -> Self {
        let mut file = self.text(name).u32(shape.len() as u32);
        for axis in shape {
            file = file.u64(*axis);
        }
        file.u32(type_id).u64(offset)
    }

    fn pad(mut self, alignment: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self
    }

    fn data(mut self, bytes: usize) -> Self {
        self = self.pad(32);
        self.0.resize(self.0.len() + bytes, 7);
        self
    }

    fn open(self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::from_gguf_bytes("crafted.gguf", self.0, &Limits::default())
    }

    fn refused(self) -> String {
        self.open().expect_err("a crafted file is refused").to_string()
    }
}

fn check(file: Gguf, said: &str) {
    let message = file.refused();
    assert!(message.contains(said) && message.starts_with("crafted.gguf"), "{message:?} does not say {said:?}");
}

fn small() -> Gguf {
    Gguf::header(3, 2, 6)
        .entry("general.architecture", STRING)
        .text("llama")
        .entry("count", U32)
        .u32(70_000)
        .entry("eps", F32)
        .raw(&1e-5_f32.to_le_bytes())
        .entry("flag", BOOL)
        .raw(&[1])
        .entry("tokens", ARRAY)
        .u32(STRING)
        .u64(2)
        .text("a")
        .text("é")
        .entry("types", ARRAY)
        .u32(I32)
        .u64(2)
        .u32(1)
        .u32(u32::MAX)
        .tensor("w", &[4, 2], 0, 32)
        .tensor("b", &[4], 0, 0)
        .data(64)
}

#[test]
fn a_small_file_reads_back() {
    for version in [2_u8, 3] {
        let mut file = small();
        file.0[4] = version;
        let checkpoint = file.open().expect("a valid file");
        let metadata = checkpoint.gguf_metadata().expect("metadata");
        assert_eq!(metadata.required("general.architecture", Metadata::string), Ok("llama"));
        assert_eq!(metadata.u32("count"), Ok(Some(70_000)));
        assert_eq!(metadata.f32("eps"), Ok(Some(1e-5)));
        assert_eq!(metadata.bool("flag"), Ok(Some(true)));
        assert_eq!(metadata.string_array("tokens"), Ok(Some(&["a".to_owned(), "é".to_owned()][..])));
        assert_eq!(metadata.i32_array("types"), Ok(Some(&[1, -1][..])));
        assert_eq!(metadata.u32("absent"), Ok(None));
        let missing = metadata.required("absent", Metadata::u32).expect_err("absent").to_string();
        assert_eq!(missing, "metadata lacks `absent`");
        let wrong = metadata.u32("flag").expect_err("a boolean").to_string();
        assert_eq!(wrong, "metadata `flag` is a boolean, expected an integer");
        let tensor = checkpoint.read("w").expect("w");
        assert_eq!((tensor.tensor_type, &tensor.shape[..], tensor.bytes.len()), (TensorType::F32, &[2, 4][..], 32));
        assert!(matches!(tensor.bytes, Cow::Borrowed(_)), "a model in memory is not copied");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = small().0;
    for len in 0..whole.len() {
        let error = Gguf(whole[..len].to_vec()).open().map(|_| len);
        assert!(error.is_err(), "{len} of {} bytes pass", whole.len());
    }
}

#[test]
fn random_damage_never_panics() {
    let whole = small().0;
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        if let Ok(checkpoint) = Gguf(bytes).open() {
            for name in checkpoint.tensor_names() {
                checkpoint.read(name).expect("a placed tensor can be read");
            }
        }
    }
}

#[test]
fn magic_and_version() {
    check(Gguf(b"GGML\x03\0\0\0".to_vec()), "expected `GGUF`");
    check(Gguf::header(0, 0, 0), "version 0 ");
    check(Gguf::header(99, 0, 0), "version 99 ");
    check(Gguf::header(3_u32.swap_bytes(), 0, 0), "little-endian");
}

#[test]
fn counts_and_lengths_beyond_the_file() {
    for huge in [1 << 32, 1 << 62, u64::MAX] {
        check(Gguf::header(3, huge, 0), "tensor count");
        check(Gguf::header(3, 0, huge), "metadata count");
        check(Gguf::header(3, 0, 1).u64(huge).raw(&[0; 40]), "metadata key");
        check(Gguf::header(3, 0, 1).entry("k", STRING).u64(huge), "metadata string");
        check(Gguf::header(3, 0, 1).entry("k", ARRAY).u32(U8).u64(huge), "array length");
        check(Gguf::header(3, 0, 1).entry("k", ARRAY).u32(STRING).u64(huge), "array length");
        check(Gguf::header(3, 1, 0).u64(huge).raw(&[0; 40]), "tensor name");
    }
    // Within the limits, but not in the file.
    check(Gguf::header(3, 1_000, 0), "are left");
    check(Gguf::header(3, 0, 1).entry("k", ARRAY).u32(STRING).u64(1_000_000), "are left");
}

#[test]
fn alignment_is_a_power_of_two_in_range() {
    for alignment in [0, 1, 3, 24, 1 << 31] {
        check(
            Gguf::header(3, 0, 1).entry("general.alignment", U32).u32(alignment),
            &format!("alignment is {alignment}"),
        );
    }
    check(Gguf::header(3, 0, 1).entry("general.alignment", STRING).text("32"), "alignment is 0");
    Gguf::header(3, 0, 1).entry("general.alignment", U32).u32(64).open().expect("64 is fine");
}

#[test]
fn shapes_that_cannot_be() {
    let one = |shape: &[u64], type_id| Gguf::header(3, 1, 0).tensor("w", shape, type_id, 0).data(64);
    check(one(&[1 << 40, 1 << 40], 0), "more elements than can be counted");
    check(one(&[1 << 62, 2], 0), "`w`");
    check(one(&[4, 0], 0), "each at least 1");
    check(one(&[], 0), "1 to 4 axes");
    check(one(&[1; 5], 0), "number of axes is 5");
    check(Gguf::header(3, 1, 0).text("w").u32(u32::MAX).raw(&[0; 64]), "number of axes is 4294967295");
    check(one(&[33], 8), "rows of 33 values, Q8_0 stores blocks of 32");
    check(one(&[16, 2], 8), "rows of 16 values");
    check(one(&[4], 4), "Q4_2");
    check(one(&[4], 77), "unknown type id 77");
}

#[test]
fn tensors_outside_the_file_or_over_each_other() {
    let two = |first: u64, second: u64, name: &str| {
        Gguf::header(3, 2, 0).tensor("a", &[16], 0, first).tensor(name, &[16], 0, second).data(128)
    };
    two(0, 64, "b").open().expect("side by side");
    check(two(0, 32, "b"), "`a` and `b` overlap at data byte 32");
    check(two(0, 0, "b"), "overlap");
    check(two(0, 96, "b"), "covers data bytes 96..160, the file holds 128");
    check(two(0, u64::MAX - 31, "b"), "the file holds 128");
    check(two(0, 65, "b"), "not a multiple of the alignment 32");
    check(two(0, 64, "a"), "tensor `a` appears twice");
}

#[test]
fn metadata_that_cannot_be() {
    check(Gguf::header(3, 0, 2).entry("k", U32).u32(1).entry("k", U32).u32(2), "metadata key `k` appears twice");
    check(Gguf::header(3, 0, 1).entry("k", 13).raw(&[0; 8]), "unknown type id 13");
    check(Gguf::header(3, 0, 1).entry("k", BOOL).raw(&[2]), "expected 0 or 1");
    check(Gguf::header(3, 0, 1).text("k\u{fffd}").u32(STRING).u64(2).raw(&[0xff, 0xfe]), "not UTF-8");
    let mut nested = Gguf::header(3, 0, 1).entry("k", ARRAY);
    for _ in 0..100_000 {
        nested = nested.u32(ARRAY).u64(1);
    }
    check(nested, "depth of arrays in arrays is 5, the limit is 4");
    check(Gguf::header(3, 0, 1).entry("split.count", U32).u32(3), "one of 3 parts");
    check(Gguf::header(3, 0, 1).entry("split.count", U32).u32(3), "merge");
}

#[test]
fn limits_are_limits() {
    let limits = Limits { gguf_header_bytes_max: 64, ..Limits::default() };
    let error = Checkpoint::from_gguf_bytes("m", small().0, &limits).expect_err("a header of more than 64 bytes");
    assert!(error.to_string().contains("are left"), "{error}");
}

/// A folder with these files beside a small `config.json`.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("config.json"), r#"{"model_type": "llama", "eos_token_id": [2, 3]}"#)
        .expect("written");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("written");
    }
    folder
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 1);
    file
}

fn check_folder(files: &[(&str, &[u8])], said: &str) {
    let folder = folder(files);
    let message = Checkpoint::open(folder.path(), &Limits::default()).expect_err("refused").to_string();
    assert!(message.contains(said), "{message:?} does not say {said:?}");
}

#[test]
fn a_folder_reads_back() {
    let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},
        "w":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]}}"#;
    let folder = folder(&[("model.safetensors", &safetensors(header, 26)), ("tokenizer.json", b"{}")]);
    let checkpoint = Checkpoint::open(folder.path(), &Limits::default()).expect("a valid folder");
    assert_eq!(checkpoint.tensor_names().collect::<Vec<_>>(), ["b", "w"]);
    assert_eq!(checkpoint.read("w").expect("w").shape, [2, 3]);
    assert_eq!(checkpoint.file("tokenizer.json"), Some(&b"{}"[..]));
    assert_eq!(checkpoint.file("chat_template.jinja"), None);
    assert_eq!(checkpoint.eos_token_ids().expect("ids"), [2, 3]);
    assert!(checkpoint.gguf_metadata().is_none() && checkpoint.config().is_some());
}

#[test]
fn generation_config_has_the_last_word_on_end_tokens() {
    let header = r#"{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
    let weights = ("model.safetensors", &safetensors(header, 2)[..]);
    let both = folder(&[weights, ("generation_config.json", br#"{"eos_token_id": 9}"#)]);
    let checkpoint = Checkpoint::open(both.path(), &Limits::default()).expect("a valid folder");
    assert_eq!(checkpoint.eos_token_ids().expect("ids"), [9]);
    let wrong = folder(&[weights, ("generation_config.json", br#"{"eos_token_id": -1}"#)]);
    let checkpoint = Checkpoint::open(wrong.path(), &Limits::default()).expect("a valid folder");
    assert!(checkpoint.eos_token_ids().expect_err("negative").to_string().contains("`eos_token_id` is -1"));
}

#[test]
fn hostile_safetensors_headers() {
    let refuse = |header: &str, data, said| check_folder(&[("model.safetensors", &safetensors(header, data))], said);
    check_folder(&[("model.safetensors", &u64::MAX.to_le_bytes())], "header length");
    check_folder(&[("model.safetensors", &(200_u64 << 20).to_le_bytes())], "the limit is 33554432");
    check_folder(&[("model.safetensors", &[100, 0, 0, 0, 0, 0, 0, 0, b'{'])], "are left");
    refuse("[]", 0, "an object of tensors");
    refuse(&"[".repeat(100_000), 0, "not valid");
    refuse(&format!(r#"{{"__metadata__":{}}}"#, "[".repeat(100_000)), 0, "not valid");
    let one = |dtype: &str, shape: &str, start: u64, end: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
    };
    refuse(&one("F32", "[2]", 8, 0), 8, "before its start");
    refuse(&one("F32", "[3]", 0, 8), 8, "need");
    refuse(&one("F32", "[2]", 0, 8), 4, "the file holds 4");
    refuse(&one("F32", "[2]", 0, 8), 12, "data bytes 8..12 belong to no tensor");
    refuse(&one("F32", "[2]", 4, 12), 12, "data bytes 0..4 belong to no tensor");
    refuse(&one("F4", "[2]", 0, 8), 8, "unknown dtype `F4`");
    refuse(&one("F32", "[0]", 0, 0), 0, "each at least 1");
    refuse(&one("F32", "[1099511627776,1099511627776]", 0, 8), 8, "more elements than can be counted");
    refuse(&one("F32", "[-1]", 0, 8), 8, "not valid");
    refuse(&one("F32", "[1,1,1,1,2]", 0, 8), 8, "1 to 4 axes");
    let entry =
        |name: &str, start, end| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":[{start},{end}]}}"#);
    refuse(&format!("{{{},{}}}", entry("a", 0, 8), entry("b", 4, 12)), 12, "overlap at data byte 4");
    refuse(&format!("{{{},{}}}", entry("a", 0, 8), entry("a", 8, 16)), 16, "`a` appears twice");
    refuse(&format!("{{{}}}", entry(&"n".repeat(300), 0, 8)), 8, "length of a tensor name is 300");
}

#[test]
fn shards_are_plain_files_that_exist() {
    const INDEX: &str = "model.safetensors.index.json";
    let shard =
        |name: &str| safetensors(&format!(r#"{{"{name}":{{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}}}"#), 2);
    let index = |shard: &str| format!(r#"{{"weight_map":{{"w":"{shard}"}}}}"#).into_bytes();
    let folder = folder(&[(INDEX, &index("a.safetensors")), ("a.safetensors", &shard("w"))]);
    Checkpoint::open(folder.path(), &Limits::default()).expect("a valid folder");
    for name in
        ["../../etc/passwd", "/etc/passwd", "..", "", "x/../a.safetensors", "a\\\\b.safetensors", ".a.safetensors"]
    {
        check_folder(&[(INDEX, &index(name))], "is not a plain file name");
    }
    check_folder(&[(INDEX, &index("gone.safetensors"))], "lacks gone.safetensors, a shard named in");
    check_folder(&[(INDEX, &index("a.safetensors")), ("a.safetensors", &shard("v"))], "has no tensor `w`");
    let twice = br#"{"weight_map":{"w":"a.safetensors","v":"b.safetensors"}}"#;
    let (a, b) = (("a.safetensors", &shard("w")[..]), ("b.safetensors", &shard("w")[..]));
    check_folder(&[(INDEX, twice), a, b], "tensor `w` appears twice");
    check_folder(&[(INDEX, b"{")], "is not valid JSON");
    check_folder(&[], "lacks model.safetensors and");
}

#[test]
fn what_is_no_model_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = |path: &Path| Checkpoint::open(path, &Limits::default()).expect_err("refused").to_string();
    assert!(open(folder.path()).contains("lacks config.json"));
    assert!(open(&folder.path().join("gone")).contains("cannot read"));
    let lone = folder.path().join("model.safetensors");
    fs::write(&lone, b"x").expect("written");
    assert!(open(&lone).contains("name the folder that holds it"));
    fs::write(folder.path().join("config.json"), b"{\"hidden_size\": NaN}").expect("written");
    assert!(open(folder.path()).contains("is not valid JSON"));
    assert!(open(Path::new("/dev/zero")).contains("not a regular file"));
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.gguf");
    fs::write(&path, small().0).expect("written");
    let checkpoint = Checkpoint::open(&path, &Limits::default()).expect("a valid file");
    assert_eq!(checkpoint.read("w").expect("whole").bytes.len(), 32);
    fs::write(&path, b"GGUF").expect("written");
    assert!(checkpoint.read("w").expect_err("gone").to_string().contains("m.gguf"));
}
