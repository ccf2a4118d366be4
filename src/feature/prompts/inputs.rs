//! The variables of a call, as the card of its prompt describes them. Anything GitLab may send is accepted: versions
//! differ in what they send, and a wrong type is better shown to the model as text than refused.

use super::PromptError;
use super::card::{InputKind, PromptCard};
use crate::feature::text::without_tags;
use minijinja::{Value as Written, context};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Given to every prompt.
pub(super) const CURRENT_DATE: &str = "current_date";
/// Passages beyond these are left out; GitLab sends four.
const DOCUMENTS_MAX: usize = 20;
const WORDS_MAX: usize = 500;

/// The variables of one call.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    texts: BTreeMap<&'static str, String>,
    documents: Vec<Document>,
}

/// A passage of the documentation.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Document {
    pub id: String,
    pub title: String,
    pub content: String,
}

/// Inputs hold code and questions: only their number is shown.
impl std::fmt::Debug for Inputs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Inputs({} texts, {} documents)", self.texts.len(), self.documents.len())
    }
}

impl Inputs {
    pub(super) fn read(
        card: &'static PromptCard,
        given: &Map<String, Value>,
        current_date: &str,
    ) -> Result<Self, PromptError> {
        let mut inputs = Self::default();
        for input in &card.inputs {
            let value = given.get(&input.name);
            if value.is_none() && input.required {
                return Err(PromptError::MissingInput { id: &card.id, name: &input.name });
            }
            let value = value.unwrap_or(&Value::Null);
            match input.kind {
                InputKind::Text => inputs.set(&input.name, text(value)),
                InputKind::Words => inputs.set(&input.name, words(value)),
                InputKind::Documents => inputs.documents = documents(value),
            }
        }
        let date = given.get(CURRENT_DATE).and_then(Value::as_str).unwrap_or(current_date);
        inputs.set(CURRENT_DATE, date.to_owned());
        Ok(inputs)
    }

    /// Empty for a variable that was not sent.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    pub(super) fn set(&mut self, name: &'static str, text: String) {
        self.texts.insert(name, text);
    }

    pub(super) fn set_documents(&mut self, documents: Vec<Document>) {
        self.documents = documents;
    }

    /// As the templates see them: framed where the card says so.
    pub(super) fn values(&self, card: &PromptCard) -> BTreeMap<&'static str, Written> {
        // Text that closes a frame would speak as we do.
        let frames: Vec<&str> = card.inputs.iter().filter_map(|input| input.frame.as_deref()).collect();
        let mut values: BTreeMap<&'static str, Written> = BTreeMap::new();
        for (name, text) in &self.texts {
            let text = without_tags(text, &frames);
            let frame = card.inputs.iter().find(|input| input.name == *name).and_then(|input| input.frame.as_ref());
            let value = match frame {
                Some(frame) if !text.trim().is_empty() => {
                    format!("<{frame}>\n{}\n</{frame}>", text.trim_matches('\n'))
                }
                _ => text.into_owned(),
            };
            values.insert(name, Written::from(value));
        }
        let documents = self.documents.iter().enumerate().map(|(index, document)| {
            context! {
                number => index + 1,
                title => document.title.as_str(),
                content => without_tags(document.content.trim(), &["document"]),
            }
        });
        values.insert("documents", documents.collect());
        values
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().take(WORDS_MAX).map(text).collect::<Vec<_>>().join(", "),
        other => text(other),
    }
}

fn documents(value: &Value) -> Vec<Document> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let document = |item: &Value| {
        let metadata = item.get("metadata").unwrap_or(&Value::Null);
        let name = ["title", "filename", "source_url"].iter().find_map(|key| metadata.get(key)?.as_str());
        let content = item.get("content").map(text).unwrap_or_default();
        Document {
            id: item.get("id").map(text).unwrap_or_default(),
            title: name.unwrap_or_default().to_owned(),
            content,
        }
    };
    items.iter().take(DOCUMENTS_MAX).map(document).filter(|document| !document.content.trim().is_empty()).collect()
}
