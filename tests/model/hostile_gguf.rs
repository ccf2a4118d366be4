//! GGUF files made to hurt: each is refused with an error that says what is wrong, without a panic and before anything
//! is allocated on the word of the file.

use crate::bytes::{ARRAY, BOOL, F32, Gguf, STRING, U8, U32, string};
use crate::check;

/// Opens `bytes` as a file and expects a refusal that contains every one of `says`.
fn check_refused(name: &str, bytes: &[u8], says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let message = check::open(&path).err().unwrap_or_else(|| panic!("{name}: was accepted"));
    assert!(message.contains("model.gguf"), "{name}: `{message}` does not name the file");
    for part in says {
        assert!(message.contains(part), "{name}: `{message}` does not say `{part}`");
    }
}

fn array(type_id: u32, count: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = type_id.to_le_bytes().to_vec();
    out.extend(count.to_le_bytes());
    out.extend(payload);
    out
}

#[test]
fn the_ground_of_these_tests_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, Gguf::sound().build()).unwrap();
    check::open(&path).unwrap_or_else(|error| panic!("the sound file is refused: {error}"));
}

#[test]
fn magic_and_version() {
    for (name, magic) in [("empty magic", [0; 4]), ("lower case", *b"gguf"), ("old format", *b"GGML")] {
        check_refused(name, &Gguf { magic, ..Gguf::sound() }.build(), &[]);
    }
    for version in [0, 1, 4, 99, u32::MAX, 3_u32.swap_bytes()] {
        let says = version.to_string();
        check_refused("version", &Gguf { version, ..Gguf::sound() }.build(), &["version", &says]);
    }
}

#[test]
fn counts_beyond_the_file() {
    for count in [1 << 16, 1 << 32, (1 << 32) + 1, 1 << 60, (1 << 61) + 3, 1 << 63, u64::MAX - 1, u64::MAX] {
        check_refused("tensor count", &Gguf { tensor_count: count, ..Gguf::sound() }.build(), &["tensor"]);
        check_refused("entry count", &Gguf { entry_count: count, ..Gguf::sound() }.build(), &["metadata"]);
        let length = count.to_le_bytes();
        let key = [&length[..], b"key"].concat();
        check_refused("key length", &[&Gguf { entry_count: 1, ..Gguf::new() }.build()[..24], &key].concat(), &[]);
        check_refused("string length", &Gguf::new().entry("a", STRING, &length).build(), &[]);
        for element in [U8, U32, BOOL, STRING, ARRAY] {
            check_refused("array length", &Gguf::new().entry("a", ARRAY, &array(element, count, &[])).build(), &[]);
        }
        let name = [&length[..], b"name"].concat();
        check_refused("tensor name length", &Gguf::new().raw_tensors(&name).build(), &[]);
    }
}

#[test]
fn alignment() {
    for alignment in [0, 1, 3, 7, 12, 48, 1 << 31, u32::MAX] {
        let file = Gguf::sound().u32("general.alignment", alignment).build();
        check_refused("alignment", &file, &["alignment", &alignment.to_string()]);
    }
    check_refused(
        "alignment of another type",
        &Gguf::sound().string("general.alignment", "32").build(),
        &["alignment"],
    );
}

#[test]
fn shapes() {
    let cases: &[(&str, &[u64])] = &[
        ("no axes", &[]),
        ("zero axis", &[0]),
        ("inner zero axis", &[8, 0]),
        ("product wraps to zero", &[1 << 32, 1 << 32]),
        ("product wraps", &[1 << 40, 1 << 40]),
        ("bytes wrap", &[1 << 62]),
        ("larger than the file", &[1 << 32]),
        ("four axes wrap", &[1 << 16, 1 << 16, 1 << 16, 1 << 16]),
        ("maximum", &[u64::MAX, u64::MAX]),
    ];
    for (name, dims) in cases {
        check_refused(name, &Gguf::new().tensor("guilty.weight", dims, F32, 0).data(64).build(), &["guilty.weight"]);
    }
    for axes in [5, 1000] {
        check_refused("axes", &Gguf::new().tensor("guilty.weight", &vec![1; axes], F32, 0).build(), &["axes"]);
    }
    let many = [&string("guilty.weight")[..], &u32::MAX.to_le_bytes()].concat();
    check_refused("2^32 axes", &Gguf::new().raw_tensors(&many).build(), &[]);
}

#[test]
fn quantised_rows_are_whole_blocks() {
    for (type_id, width) in [(2, 33), (8, 16), (12, 128), (13, 300), (14, 255)] {
        let file = Gguf::new().tensor("guilty.weight", &[width, 2], type_id, 0).data(4096).build();
        check_refused("ragged rows", &file, &["guilty.weight", &width.to_string()]);
    }
}

#[test]
fn types() {
    for type_id in [4, 5, 31, 36, 99, 1 << 16, u32::MAX] {
        let file = Gguf::new().tensor("guilty.weight", &[32], type_id, 0).data(256).build();
        check_refused("tensor type", &file, &[]);
    }
    for type_id in [13, 99, u32::MAX] {
        check_refused("value type", &Gguf::new().entry("guilty", type_id, &[0; 16]).build(), &[]);
        check_refused("element type", &Gguf::new().entry("guilty", ARRAY, &array(type_id, 1, &[0; 16])).build(), &[]);
    }
    check_refused("boolean of two", &Gguf::new().entry("guilty", BOOL, &[2]).build(), &[]);
    check_refused("key that is not UTF-8", &not_utf8_key(), &["UTF-8"]);
}

fn not_utf8_key() -> Vec<u8> {
    let mut file = Gguf::new().u32("abc", 1).build();
    file[32..35].copy_from_slice(&[0xff, 0xfe, 0x80]);
    file
}

#[test]
fn offsets() {
    let past = |offset| Gguf::new().tensor("guilty.weight", &[8], F32, offset).data(64).build();
    for offset in [64, 96, 1 << 32, 1 << 63, u64::MAX - 31] {
        check_refused("outside the file", &past(offset), &["guilty.weight"]);
    }
    check_refused("not aligned", &past(4), &["guilty.weight"]);
    let overlap =
        Gguf::new().tensor("first.weight", &[16], F32, 0).tensor("guilty.weight", &[8], F32, 32).data(64).build();
    check_refused("overlap", &overlap, &["first.weight", "guilty.weight"]);
    let same = Gguf::new().tensor("first.weight", &[8], F32, 0).tensor("guilty.weight", &[8], F32, 0).data(64).build();
    check_refused("the same place twice", &same, &["first.weight", "guilty.weight"]);
}

#[test]
fn duplicates() {
    check_refused("key", &Gguf::sound().u32("twin", 1).u32("twin", 1).build(), &["twin", "twice"]);
    let twins = Gguf::new().tensor("twin", &[8], F32, 0).tensor("twin", &[8], F32, 32).data(64).build();
    check_refused("tensor", &twins, &["twin", "twice"]);
}

#[test]
fn nested_arrays() {
    // Each level holds one array; the innermost claims to hold one more.
    for depth in [8, 1_000, 100_000] {
        let level = array(ARRAY, 1, &[]);
        check_refused("nested", &Gguf::new().entry("guilty", ARRAY, &level.repeat(depth)).build(), &[]);
    }
}

#[test]
fn truncation_at_every_boundary() {
    let sound = Gguf::sound();
    let whole = sound.build();
    for boundary in sound.boundaries() {
        for cut in [boundary.saturating_sub(1), boundary, boundary + 1] {
            if cut < whole.len() {
                check_refused(&format!("cut at {cut} of {}", whole.len()), &whole[..cut], &[]);
            }
        }
    }
}

#[test]
fn truncation_anywhere() {
    let whole = Gguf::sound().build();
    for cut in 0..whole.len() {
        check_refused(&format!("cut at {cut}"), &whole[..cut], &[]);
    }
}

#[test]
fn one_wrong_byte_never_panics() {
    let whole = Gguf::sound().build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for at in 0..whole.len() - 160 {
        for value in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1] {
            let mut file = whole.clone();
            file[at] = value;
            std::fs::write(&path, &file).unwrap();
            let _ = check::open(&path); // accepted or refused, both are an answer
        }
    }
}

#[test]
fn a_real_model_cut_short_is_refused() {
    let whole = std::fs::read(crate::golden::gguf("qwen2-f32.gguf")).unwrap();
    for eighth in 1..8 {
        check_refused("cut", &whole[..whole.len() * eighth / 8], &[]);
    }
    check_refused("last byte missing", &whole[..whole.len() - 1], &[]);
}
