//! JSON that a model was asked for: found in whatever stands around it, and written anew with the keys that belong.

use super::collected::Repaired;
use serde::Serialize;
use serde_json::{Map, Value};

/// Places of a text where an object is looked for: more are not in an honest answer.
const PLACES_MAX: usize = 64;

/// The last object of a text that has this key. Models think aloud first and answer last.
pub(super) fn object_with(text: &str, key: &str) -> Option<Map<String, Value>> {
    let places: Vec<usize> = text.match_indices('{').map(|(at, _)| at).take(PLACES_MAX).collect();
    places.into_iter().rev().find_map(|at| object_at(&text[at..]).filter(|object| object.contains_key(key)))
}

/// An object that is cut off at its end is closed once.
fn object_at(text: &str) -> Option<Map<String, Value>> {
    let first = |text: &str| match serde_json::Deserializer::from_str(text).into_iter::<Value>().next() {
        Some(Ok(Value::Object(object))) => Some(object),
        _ => None,
    };
    first(text).or_else(|| {
        let open = text.split(['`', '\n', '}']).next().unwrap_or(text).trim_end();
        ["}", "\"}"].iter().find_map(|end| first(&format!("{open}{end}")))
    })
}

fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, lists of them and numbers can be written")
}

/// What GitLab counts questions by.
#[derive(Serialize)]
struct Category {
    category: String,
    detailed_category: String,
    labels: Vec<String>,
    language: String,
}

pub(super) fn category(written: &str) -> Repaired {
    const OTHER: &str = "Other";
    let Some(object) = object_with(written, "category") else {
        let unknown = Category {
            category: OTHER.to_owned(),
            detailed_category: OTHER.to_owned(),
            labels: Vec::new(),
            language: "en".to_owned(),
        };
        return Repaired::noted(json(&unknown), "the model wrote no category");
    };
    let category = string(&object, "category").unwrap_or_else(|| OTHER.to_owned());
    Repaired::clean(json(&Category {
        detailed_category: string(&object, "detailed_category").unwrap_or_else(|| category.clone()),
        labels: strings(object.get("labels")),
        language: language(&string(&object, "language").unwrap_or_default()),
        category,
    }))
}

/// ISO 639-1: `en-US` is `en`, and so is what cannot be read.
fn language(written: &str) -> String {
    let code = written.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_code { code } else { "en".to_owned() }
}

/// How a comment sounds: 1 friendly to 5 insulting.
#[derive(Serialize)]
struct Temperature {
    rating: u8,
    issues: Vec<String>,
}

pub(super) fn temperature(written: &str) -> Repaired {
    let object = object_with(written, "rating");
    let rating = match object.as_ref().and_then(|object| object.get("rating")) {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_u64(),
        None => written.split(|char: char| !char.is_ascii_digit()).find_map(|digits| digits.parse().ok()),
    };
    let issues = strings(object.as_ref().and_then(|object| object.get("issues")));
    match rating.and_then(|rating| u8::try_from(rating).ok()).filter(|rating| (1..=5).contains(rating)) {
        Some(rating) => Repaired::clean(json(&Temperature { rating, issues })),
        None => Repaired::noted(json(&Temperature { rating: 1, issues }), "the model wrote no rating from 1 to 5"),
    }
}

/// Names out of a catalog, the best first.
#[derive(Serialize)]
struct FeatureList {
    features: Vec<String>,
}

pub(super) fn feature_list(catalog: &str, query: &str, written: &str) -> Repaired {
    const FEATURES_MAX: usize = 5;
    let names = names(catalog);
    let object = object_with(written, "features");
    let mut features: Vec<String> = Vec::new();
    for said in strings(object.as_ref().and_then(|object| object.get("features"))) {
        let known = names.iter().find(|name| name.to_lowercase() == said.trim().to_lowercase());
        if let Some(name) = known.filter(|name| !features.contains(name)) {
            features.push(name.clone());
        }
    }
    features.truncate(FEATURES_MAX);
    let said_none =
        object.is_some_and(|object| object.get("features").is_some_and(|list| *list == Value::Array(vec![])));
    if !features.is_empty() || said_none {
        return Repaired::clean(json(&FeatureList { features }));
    }
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).filter(|word| word.len() > 3).collect();
    let is_about = |name: &&String| words.iter().any(|word| name.to_lowercase().contains(word.as_str()));
    let features = names.iter().filter(is_about).take(FEATURES_MAX).cloned().collect();
    Repaired::noted(
        json(&FeatureList { features }),
        "the model named nothing of the catalog: searched it for the query",
    )
}

/// The names of a catalog: strings or `name` and `title` of objects when it is JSON, else what each line begins with.
fn names(catalog: &str) -> Vec<String> {
    if let Ok(Value::Array(items)) = serde_json::from_str(catalog) {
        let name = |item: &Value| match item {
            Value::String(text) => Some(text.clone()),
            Value::Object(object) => ["name", "title", "id"].iter().find_map(|key| string(object, key)),
            _ => None,
        };
        return items.iter().filter_map(name).collect();
    }
    let name = |line: &str| {
        let line = line.trim().trim_start_matches(['-', '*', ' ']);
        let end = [": ", " - ", " – "].iter().filter_map(|border| line.find(border)).min().unwrap_or(line.len());
        line[..end].trim_end_matches(':').trim_matches('*').trim().to_owned()
    };
    catalog.lines().map(name).filter(|name| !name.is_empty()).collect()
}
