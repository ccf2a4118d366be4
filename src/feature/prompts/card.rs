//! One prompt as its data file describes it. Every text that is not the caller's is checked when the file is read.

use super::PromptError;
use super::inputs::Inputs;
use crate::domain::Class;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Deserialize;

/// Instructions one rendering may execute; a document of a list costs some dozens.
const FUEL: u64 = 100_000;
const SYSTEM: &str = "system";
const USER: &str = "user";

/// What is known of a prompt before anybody calls it.
#[derive(Debug)]
pub struct PromptCard {
    /// As it stands in the path, for example `chat/explain_code`.
    pub id: String,
    /// A caller needs one of these scopes.
    pub unit_primitives: Vec<String>,
    /// The feature an administrator of GitLab gives a model to; `None` where GitLab has no such setting.
    pub feature_setting: Option<String>,
    pub output: OutputKind,
    /// At most this many new tokens, where the model's context has room for them.
    pub max_tokens: usize,
    pub temperature: f32,
    pub class: Class,
    pub stop: Vec<String>,
    /// How the answer begins; the model does not repeat it.
    pub answer_prefix: String,
    pub inputs: Vec<InputCard>,
    templates: Environment<'static>,
}

/// One variable of `inputs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputCard {
    pub name: String,
    #[serde(default)]
    pub kind: InputKind,
    /// Absent is an error. `null` is not absent.
    #[serde(default)]
    pub required: bool,
    /// The tag that frames the text in the prompt; without one it stands as it is.
    pub frame: Option<String>,
    /// Which part stays when the prompt is too long; without it the input is never cut.
    pub keep: Option<Keep>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Text; anything else becomes text.
    #[default]
    Text,
    /// A list of words.
    Words,
    /// Passages of the documentation, best first.
    Documents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    Head,
    Tail,
    /// The middle is left out.
    Ends,
}

/// What GitLab reads from the answer; each has its guarantee in `feature::output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Shown as it is, as it comes.
    Markdown,
    /// Used as it is, whole: no fence around it, no sentence before it.
    Prose,
    IssueIdentifier,
    WorkItemIdentifier,
    EpicIdentifier,
    MergeRequestIdentifier,
    CommitIdentifier,
    BuildIdentifier,
    DocumentationAnswer,
    Review,
    Resolution,
    CommitMessage,
    MergeRequestSummary,
    ReviewSummary,
    Commands,
    Category,
    FeatureList,
    Title,
    Intent,
    Temperature,
    /// Anything that is not empty.
    Sign,
}

/// Both messages of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    pub system: String,
    pub user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    unit_primitives: Vec<String>,
    feature_setting: Option<String>,
    output: OutputKind,
    max_tokens: usize,
    temperature: f32,
    #[serde(default)]
    is_awaited: bool,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    answer_prefix: String,
    system: String,
    user: String,
    #[serde(default)]
    inputs: Vec<InputCard>,
}

/// What is wrong with a data file. Ours are checked by a test, so this never reaches a caller.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    #[error("{0}")]
    Template(String),
}

impl PromptCard {
    pub(super) fn parse(text: &str) -> Result<Self, CardError> {
        let file: File = toml::from_str(text)?;
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::None);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        templates.set_syntax(syntax.expect("the usual delimiters are valid"));
        templates.set_fuel(Some(FUEL));
        for (name, source) in [(SYSTEM, file.system), (USER, file.user)] {
            let added = templates.add_template_owned(name, source);
            added.map_err(|error| CardError::Template(format!("{}: {name}: {error}", file.id)))?;
        }
        Ok(Self {
            id: file.id,
            unit_primitives: file.unit_primitives,
            feature_setting: file.feature_setting,
            output: file.output,
            max_tokens: file.max_tokens,
            temperature: file.temperature,
            // GitLab's connection test waits three seconds. A long prompt would keep those who type waiting.
            class: if file.is_awaited { Class::Completion } else { Class::Chat },
            stop: file.stop,
            answer_prefix: file.answer_prefix,
            inputs: file.inputs,
            templates,
        })
    }

    /// Writes both messages. Values are data: template syntax in them is text.
    pub(super) fn write(&'static self, inputs: &Inputs) -> Result<Texts, PromptError> {
        let values = inputs.values(self);
        let text = |name: &str| {
            let template = self.templates.get_template(name).expect("both were added when the card was read");
            let written = template.render(&values).map_err(|error| {
                // The detail of an error may hold a value.
                PromptError::Template { id: &self.id, reason: error.kind().to_string() }
            })?;
            Ok(written.trim().to_owned())
        };
        Ok(Texts { system: text(SYSTEM)?, user: text(USER)? })
    }
}
