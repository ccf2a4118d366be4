//! From what a model wrote to what GitLab parses. Each kind of output has a guarantee that holds for any text whatever,
//! also a hostile one: GitLab's parser accepts the result, and what was useful in the text is in it.
//!
//! The guarantees are held by `tests/parsers`, where GitLab's side is written down from the contract.

mod collected;
mod commands;
mod commit_message;
mod documentation;
mod identifier;
mod indent;
mod markdown;
mod objects;
mod prose;
mod resolution;
mod review;
mod words;

pub use collected::Note;

use super::prompts::{Inputs, OutputKind, PromptCard};
use super::{Family, Plain, Shape};
use collected::{Collected, Repair};
use identifier::Resource;

/// The answer, where the inputs leave no doubt.
pub(super) fn certain_answer(kind: OutputKind, inputs: &Inputs) -> Option<String> {
    identifier::certain(resource(kind)?, inputs.text("input"), inputs.text("suggestions"))
}

/// What makes GitLab's form of a model's text, and where it leaves a note for the log.
pub(super) fn shape(card: &PromptCard, inputs: &Inputs, family: Option<Family>, note: &Note) -> Box<dyn Shape> {
    match card.output {
        OutputKind::Markdown => return Box::new(markdown::Markdown::new(note.clone())),
        OutputKind::DocumentationAnswer => {
            return Box::new(documentation::DocumentationAnswer::new(inputs.documents(), note.clone()));
        }
        OutputKind::Sign => return Box::new(words::Sign::default()),
        _ => {}
    }
    let Some(repair) = repair(card.output, inputs) else { return Box::new(Plain) };
    // Markdown lives of its backslashes; identifiers and code do not have this one.
    let escapes_underscores = family.is_some_and(Family::escapes_underscores);
    Box::new(Collected::new(&card.answer_prefix, escapes_underscores, repair, note.clone()))
}

fn repair(kind: OutputKind, inputs: &Inputs) -> Option<Repair> {
    let text = |name: &str| inputs.text(name).to_owned();
    if let Some(resource) = resource(kind) {
        let (question, thought) = (text("input"), text("suggestions"));
        return Some(Box::new(move |answer, _| identifier::repair(resource, &question, &thought, answer)));
    }
    Some(match kind {
        OutputKind::Review => {
            let diff = text("diff_lines");
            Box::new(move |answer, _| review::repair(&diff, answer))
        }
        OutputKind::Resolution => {
            let (source, vulnerable) = (text("source_code"), text("vulnerable_code"));
            Box::new(move |answer, reason| resolution::repair(&source, &vulnerable, answer, reason))
        }
        OutputKind::CommitMessage => {
            let diff = text("diff");
            Box::new(move |answer, _| commit_message::repair(&diff, answer))
        }
        OutputKind::Prose => Box::new(|answer, _| prose::repair(answer, || None)),
        OutputKind::MergeRequestSummary => {
            let diff = text("extracted_diff");
            Box::new(move |answer, _| prose::repair(answer, || commit_message::summary_of_files(&diff)))
        }
        OutputKind::ReviewSummary => {
            let notes = text("draft_notes_content");
            Box::new(move |answer, _| prose::repair(answer, || prose::list_of_comments(&notes)))
        }
        OutputKind::Commands => Box::new(|answer, _| commands::repair(answer)),
        OutputKind::Category => Box::new(|answer, _| objects::category(answer)),
        OutputKind::Temperature => Box::new(|answer, _| objects::temperature(answer)),
        OutputKind::FeatureList => {
            let (catalog, query) = (text("catalog"), text("query"));
            Box::new(move |answer, _| objects::feature_list(&catalog, &query, answer))
        }
        OutputKind::Title => {
            let context = text("context");
            Box::new(move |answer, _| words::title(&context, answer))
        }
        OutputKind::Intent => {
            let message = text("message");
            Box::new(move |answer, _| words::intent(&message, answer))
        }
        OutputKind::Markdown
        | OutputKind::DocumentationAnswer
        | OutputKind::Sign
        | OutputKind::IssueIdentifier
        | OutputKind::WorkItemIdentifier
        | OutputKind::EpicIdentifier
        | OutputKind::MergeRequestIdentifier
        | OutputKind::CommitIdentifier
        | OutputKind::BuildIdentifier => return None,
    })
}

fn resource(kind: OutputKind) -> Option<Resource> {
    match kind {
        OutputKind::IssueIdentifier => Some(Resource::Issue),
        OutputKind::WorkItemIdentifier => Some(Resource::WorkItem),
        OutputKind::EpicIdentifier => Some(Resource::Epic),
        OutputKind::MergeRequestIdentifier => Some(Resource::MergeRequest),
        OutputKind::CommitIdentifier => Some(Resource::Commit),
        OutputKind::BuildIdentifier => Some(Resource::Build),
        _ => None,
    }
}
