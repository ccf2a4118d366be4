//! Which resource a question is about. GitLab parses one JSON object with exactly two keys.
//!
//! What stands in the question goes before what a model says of it: a web address, a reference or a number that is there
//! once is the answer, and a number that is not there is none.

use super::collected::Repaired;
use super::objects::object_with;
use serde_json::Value;

const TYPE: &str = "ResourceIdentifierType";
const IDENTIFIER: &str = "ResourceIdentifier";
const ID_DIGITS_MAX: usize = 18;
/// Of so many none is certain.
const CANDIDATES_MAX: usize = 64;
const SHA_CHARS: std::ops::RangeInclusive<usize> = 7..=40;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Issue,
    WorkItem,
    Epic,
    MergeRequest,
    Commit,
    Build,
}

impl Resource {
    /// Folders of web addresses.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Issue | Self::WorkItem => &["/issues/", "/work_items/", "/incidents/", "/issues/incident/"],
            Self::Epic => &["/epics/", "/work_items/"],
            Self::MergeRequest => &["/merge_requests/"],
            Self::Commit => &["/commit/", "/commits/"],
            Self::Build => &["/jobs/", "/builds/"],
        }
    }

    fn sign(self) -> Option<char> {
        match self {
            Self::Issue | Self::WorkItem => Some('#'),
            Self::Epic => Some('&'),
            Self::MergeRequest => Some('!'),
            Self::Commit => Some('@'),
            Self::Build => None,
        }
    }

    /// A number behind one of these is meant.
    fn nouns(self) -> &'static [&'static str] {
        match self {
            Self::Issue => &["issue", "ticket", "incident", "bug", "iid"],
            Self::WorkItem => &["item", "task", "issue", "objective", "ticket", "iid"],
            Self::Epic => &["epic", "iid"],
            Self::MergeRequest => &["mr", "request", "pr", "iid"],
            Self::Commit => &["commit", "sha", "revision"],
            Self::Build => &["job", "build", "id"],
        }
    }
}

/// In order of how much it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Iid,
    Reference,
    Url,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    kind: Kind,
    text: String,
    /// The number or commit id in it.
    key: String,
    /// A number that may as well count something else.
    is_loose: bool,
}

impl Found {
    fn answer(&self) -> String {
        match self.kind {
            Kind::Url => answer("url", &self.text),
            Kind::Reference => answer("reference", &self.text),
            Kind::Iid => answer("iid", &self.text),
        }
    }
}

fn answer(kind: &str, identifier: &str) -> String {
    let identifier = Value::from(identifier);
    format!("```json\n{{\"{TYPE}\": \"{kind}\", \"{IDENTIFIER}\": {identifier}}}\n```\n")
}

fn current() -> String {
    answer("current", "current")
}

/// The answer, where the texts leave no doubt: one resource is named, or nothing that could name one.
pub(super) fn certain(resource: Resource, question: &str, thought: &str) -> Option<String> {
    let thought = without_retry_note(thought);
    for text in [question, thought] {
        let found = candidates(resource, text);
        if let Some(only) = only_strong(&found) {
            return Some(only.answer());
        }
        if may_name_one(resource, text) {
            return None;
        }
    }
    Some(current())
}

/// The answer of a model, checked against the texts; where it cannot be used, what the texts say alone.
pub(super) fn repair(resource: Resource, question: &str, thought: &str, written: &str) -> Repaired {
    let thought = without_retry_note(thought);
    if let Some(accepted) = accepted(resource, &[question, thought], written) {
        return Repaired::clean(accepted);
    }
    let found = [question, thought].iter().find_map(|text| {
        let candidates = candidates(resource, text);
        candidates.iter().find(|found| !found.is_loose).or(candidates.first()).map(Found::answer)
    });
    let note = "the model named no resource of the question: judged by the words of the question";
    Repaired::noted(found.unwrap_or_else(current), note)
}

fn accepted(resource: Resource, texts: &[&str], written: &str) -> Option<String> {
    let (kind, identifier) = said(written)?;
    if kind == "current" {
        return Some(current());
    }
    // One word, or a noun and its number: what stands in more of them was not copied.
    let first = words(&identifier).next()?.to_lowercase();
    let words_max = if resource.nouns().contains(&first.as_str()) { 2 } else { 1 };
    if words(&identifier).count() > words_max {
        return None;
    }
    let found = candidates(resource, &identifier).into_iter().next()?;
    // Also in a foreign form: `#12` in the text may come back as `12`.
    let is_in_text = texts.iter().any(|text| keys(text).any(|key| key == found.key));
    let is_copied = found.kind != Kind::Url || texts.iter().any(|text| text.contains(&found.text));
    let has_path = found.kind == Kind::Reference && found.text.len() > found.key.len() + 1;
    let has_known_path = !has_path || texts.iter().any(|text| text.contains(&found.text));
    (is_in_text && is_copied && has_known_path).then(|| found.answer())
}

/// Type and identifier of a model's answer, also of one that goes on from the beginning GitLab supposes.
fn said(written: &str) -> Option<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let bare = written.trim_start();
    let bare = bare.strip_prefix("```json").unwrap_or(bare).trim_start();
    let continued = format!("{{\"{TYPE}\": \"{bare}");
    let object = object_with(written, TYPE).or_else(|| object_with(&continued, TYPE))?;
    let kind = text(object.get(TYPE)?)?.to_lowercase();
    let identifier = object.get(IDENTIFIER).and_then(text).unwrap_or_default();
    Some((kind, identifier))
}

/// GitLab appends this to the thought when it asks once more.
fn without_retry_note(thought: &str) -> &str {
    thought.split("\nObservation:").next().unwrap_or_default()
}

/// The most telling of the candidates that are sure, when all of them mean the same.
fn only_strong(found: &[Found]) -> Option<&Found> {
    let strong = || found.iter().filter(|found| !found.is_loose);
    let first = strong().next()?;
    if strong().any(|other| other.key != first.key) {
        return None;
    }
    let best = strong().max_by_key(|found| (found.kind, found.text.len()))?;
    // Two projects may have the same number.
    let is_one = strong().all(|other| other.kind != best.kind || best.text.ends_with(other.text.as_str()));
    is_one.then_some(best)
}

/// Whether something in the text could name a resource, in whatever form.
fn may_name_one(resource: Resource, text: &str) -> bool {
    let is_hex_word = |word: &str| SHA_CHARS.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.contains("://")
        || text.chars().any(char::is_numeric)
        || resource == Resource::Commit && words(text).any(is_hex_word)
}

/// Everything in a text that has the form of an identifier of this resource, in order.
fn candidates(resource: Resource, text: &str) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut before = String::new();
    let is_alone = words(text).nth(1).is_none();
    for word in words(text) {
        let candidate = url(resource, word).or_else(|| reference(resource, word)).or_else(|| {
            let noun = before.strip_suffix('s').unwrap_or(&before);
            number(resource, word, is_alone || resource.nouns().contains(&noun))
        });
        if let Some(candidate) = candidate
            && !found.contains(&candidate)
        {
            found.push(candidate);
            if found.len() == CANDIDATES_MAX {
                break;
            }
        }
        let is_filler = ["no", "nr", "number", "id", "the"].contains(&before_word(word).as_str());
        if !is_filler || before.is_empty() {
            before = before_word(word);
        }
    }
    found
}

fn before_word(word: &str) -> String {
    word.trim_end_matches(['.', ':']).to_lowercase()
}

/// Numbers and commit ids of a text, whatever stands around them.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_ascii_alphanumeric()).filter(|key| !key.is_empty())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_border = |char: char| char.is_whitespace() || "\"'`<>()[]{},;|".contains(char);
    text.split(is_border)
        .map(|word| word.trim_start_matches(['*', '_']).trim_end_matches(['.', ':', '!', '?', '*', '_', '+']))
        .filter(|word| !word.is_empty())
}

/// The address up to the number; what follows it (tabs, anchors) names the same resource.
fn url(resource: Resource, word: &str) -> Option<Found> {
    let scheme = ["http://", "https://"].into_iter().find(|scheme| word.starts_with(scheme))?;
    let is_safe = word.chars().all(|char| char.is_ascii_graphic() && char != '\\') && !word.contains("Question:");
    if !is_safe || word.len() == scheme.len() {
        return None;
    }
    let path_end = word.find(['?', '#']).unwrap_or(word.len());
    resource.folders().iter().find_map(|folder| {
        let start = word[..path_end].rfind(folder)? + folder.len();
        let rest = &word[start..path_end];
        let key = &rest[..rest.find('/').unwrap_or(rest.len())];
        is_key(resource, key).then(|| Found {
            kind: Kind::Url,
            text: word[..start + key.len()].to_owned(),
            key: key.to_owned(),
            is_loose: false,
        })
    })
}

fn reference(resource: Resource, word: &str) -> Option<Found> {
    let (path, key) = word.rsplit_once(resource.sign()?)?;
    let is_path = path.chars().all(|char| char.is_ascii_alphanumeric() || "_.-/".contains(char));
    // `@name` alone is a person.
    let needs_path = resource == Resource::Commit;
    let has_form = is_path && !path.starts_with('/') && (!needs_path || path.contains('/'));
    (has_form && is_key(resource, key)).then(|| Found {
        kind: Kind::Reference,
        text: word.to_owned(),
        key: key.to_owned(),
        is_loose: false,
    })
}

fn number(resource: Resource, word: &str, is_named: bool) -> Option<Found> {
    let is_signed = resource == Resource::Build && word.starts_with('#');
    let key = if is_signed { &word[1..] } else { word };
    if !is_key(resource, key) {
        return None;
    }
    // Few words are made of the letters a to f alone; with a digit in it no word is.
    let is_commit_id = resource == Resource::Commit && key.bytes().any(|byte| byte.is_ascii_digit());
    let is_loose = !(is_named || is_signed || is_commit_id);
    Some(Found { kind: Kind::Iid, text: key.to_owned(), key: key.to_owned(), is_loose })
}

fn is_key(resource: Resource, key: &str) -> bool {
    match resource {
        Resource::Commit => SHA_CHARS.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => (1..=ID_DIGITS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
