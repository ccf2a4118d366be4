//! Compares an answer with the shape a golden case gives: keys and types, and literals where they are given.

use serde_json::Value;

/// Every difference between `found` and the shape `expected`, each with its place.
pub fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("$", expected, found, &mut differences);
    differences
}

fn compare(place: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    let mut differ = |what: &str| differences.push(format!("{place}: expected {what}, found {found}"));
    match expected {
        Value::Null if !found.is_null() => differ("null"),
        Value::Bool(_) if found != expected => differ(&expected.to_string()),
        // Counts, times: only the type is meant.
        Value::Number(_) if !found.is_number() => differ("a number"),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => {
            if !fits(text, found) {
                differ(text);
            }
        }
        Value::Array(items) => match found.as_array() {
            None => differ("a list"),
            Some(found) => compare_lists(place, items, found, differences),
        },
        Value::Object(fields) => match found.as_object() {
            None => differ("an object"),
            Some(found) => {
                for (name, expected) in fields {
                    if name.starts_with('<') {
                        for (name, value) in found {
                            compare(&format!("{place}.{name}"), expected, value, differences);
                        }
                        continue;
                    }
                    match found.get(name) {
                        Some(value) => compare(&format!("{place}.{name}"), expected, value, differences),
                        None => differences.push(format!("{place}.{name} is missing")),
                    }
                }
            }
        },
    }
}

fn compare_lists(place: &str, expected: &[Value], found: &[Value], differences: &mut Vec<String>) {
    let is_flags = place.ends_with("enabled_feature_flags");
    match expected {
        // Which flags there are depends on a header, and an empty header is one flag without a name.
        _ if is_flags => {
            for (index, value) in found.iter().enumerate() {
                compare(&format!("{place}[{index}]"), &Value::from("<string>"), value, differences);
            }
        }
        [] if !found.is_empty() => differences.push(format!("{place}: expected an empty list, found {}", found.len())),
        [first, ..] if found.is_empty() => differences.push(format!("{place}: expected {first}, found an empty list")),
        _ => {
            for (index, value) in found.iter().enumerate() {
                let expected = expected.get(index).or(expected.last()).expect("not empty");
                compare(&format!("{place}[{index}]"), expected, value, differences);
            }
        }
    }
}

/// Whether a value is what a text of the shape stands for: `<…>` is any value of that kind.
fn fits(expected: &str, found: &Value) -> bool {
    let text = found.as_str();
    match expected {
        "<string or null>" => found.is_null() || text.is_some(),
        "<non-empty string>" => text.is_some_and(|text| !text.is_empty()),
        "<code without fences>" => text.is_some_and(|text| !text.is_empty() && !text.contains("```")),
        "<JSON string>" => text.is_some_and(|text| !text.is_empty()),
        "<JSON string with a fenced command>" => text.is_some_and(|text| text.matches("```").count() >= 2),
        "<lower-case hex>" => text.is_some_and(|text| {
            !text.is_empty() && text.chars().all(|char| char.is_ascii_digit() || ('a'..='f').contains(&char))
        }),
        "<url>" => text.is_some_and(|text| text.starts_with("http")),
        "<JWT>" => text.is_some_and(|text| text.split('.').count() == 3),
        _ if expected.starts_with('<') => text.is_some(),
        _ => text == Some(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_comparison_can_fail() {
        let check = |expected: Value, found: Value, number: usize| {
            assert_eq!(differences(&expected, &found).len(), number, "{expected} {found}");
        };
        check(json!({"a": 1}), json!({"a": 2, "b": 3}), 0);
        check(json!({"a": 1}), json!({"a": "2"}), 1);
        check(json!({"a": "x"}), json!({"a": "y"}), 1);
        check(json!({"a": "<string>"}), json!({"a": null}), 1);
        check(json!({"a": []}), json!({"a": [1]}), 1);
        check(json!({"a": ["<string>"]}), json!({"a": []}), 1);
        check(json!({"a": "<non-empty string>"}), json!({}), 1);
        check(json!({"<model name>": {"n": 1}}), json!({"m": {"n": "1"}}), 1);
    }
}
