//! Reads JSON strings, one a line, and prints for each whether it is a Rust file: 1 or 0.

use std::io::BufRead as _;

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("readable input");
        let text: String = serde_json::from_str(&line).expect("a JSON string");
        println!("{}", u8::from(syn::parse_file(&text).is_ok()));
    }
}
