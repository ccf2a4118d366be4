//! Models of several makers as Google's Vertex AI serves them (cloud.google.com/vertex-ai/generative-ai/docs): addresses
//! are Vertex AI's, requests and streams those of each maker.

use super::anthropic::{Anthropic, AnthropicSampling, AnthropicSettings};
use super::endpoint::{Remote, segment};
use super::gemini::Gemini;
use super::habits::{Habits, Kind};
use super::infill::InfillForm;
use super::openai::{OpenAiCompatible, OpenAiSettings};
use crate::domain::{Event, Generate, GenerateError, Job, SamplingParams};
use crate::egress::Egress;
use futures::stream::BoxStream;
use serde_json::{Map, Value};

#[derive(Clone, Debug)]
pub struct VertexSettings {
    /// With [`Vertex::base`] of the location, or that of a private endpoint, as the base, and a token that Google takes.
    pub remote: Remote,
    /// Who pays.
    pub project: String,
    pub location: String,
    /// [`VertexFamily::of`] the model, unless that is mistaken.
    pub family: VertexFamily,
    /// [`InfillForm::Fim`] for Codestral, which alone of these completes code around a cursor.
    pub infill: InfillForm,
    /// What a Claude takes.
    pub sampling: AnthropicSampling,
    pub has_answer_prefix: bool,
    /// The operator's own fields, sent with every request, such as `generationConfig.thinkingConfig`: they never take the
    /// place of ours.
    pub extra: Map<String, Value>,
}

/// In whose words a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VertexFamily {
    Claude,
    Gemini,
    Mistral,
    /// Open models, served in OpenAI's words. Their names have the maker before a slash (`meta/…`, `qwen/…`).
    Open,
}

impl VertexFamily {
    pub fn of(model: &str) -> Self {
        let name = bare(model);
        let is = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
        if is(&["claude"]) {
            Self::Claude
        } else if is(&["gemini"]) {
            Self::Gemini
        } else if is(&["codestral", "mistral", "ministral"]) {
            Self::Mistral
        } else {
            Self::Open
        }
    }
}

pub struct Vertex(Lane);

enum Lane {
    Claude(Anthropic),
    Gemini(Gemini),
    OpenAi(OpenAiCompatible),
}

impl Vertex {
    /// Where Google serves a location: a region, `us` or `eu` for the regions of a continent, or `global`.
    pub fn base(location: &str) -> String {
        match location {
            "global" => "https://aiplatform.googleapis.com".to_owned(),
            "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
            region => format!("https://{}-aiplatform.googleapis.com", segment(region)),
        }
    }

    pub fn new(egress: Egress, settings: VertexSettings) -> Self {
        let url = address(&settings);
        let VertexSettings { mut remote, family, infill, sampling, has_answer_prefix, extra, .. } = settings;
        remote.endpoint = match family {
            VertexFamily::Open => remote.endpoint.moved(url, String::new()),
            VertexFamily::Claude | VertexFamily::Gemini | VertexFamily::Mistral => remote.endpoint.whole(url),
        };
        Self(match family {
            VertexFamily::Claude => Lane::Claude(Anthropic::on_vertex(
                egress,
                AnthropicSettings { remote, sampling, has_answer_prefix },
                extra,
            )),
            VertexFamily::Gemini => Lane::Gemini(Gemini::new(egress, remote, extra)),
            VertexFamily::Mistral => {
                // The body names the model without the version that the address has.
                let model = bare(&remote.model);
                remote.model = model.split('@').next().unwrap_or(model).to_owned();
                let habits = Habits::of(Kind::Mistral);
                Lane::OpenAi(OpenAiCompatible::new(egress, OpenAiSettings { remote, habits, infill, extra }))
            }
            VertexFamily::Open => {
                let habits = Habits { has_completions: false, ..Habits::of(Kind::OpenAi) };
                Lane::OpenAi(OpenAiCompatible::new(egress, OpenAiSettings { remote, habits, infill, extra }))
            }
        })
    }

    /// The parameters of a job that the model's API does not know and that are not sent.
    pub fn leaves_out(&self, sampling: &SamplingParams) -> Vec<&'static str> {
        match &self.0 {
            Lane::Claude(lane) => lane.leaves_out(sampling),
            Lane::Gemini(lane) => lane.leaves_out(sampling),
            Lane::OpenAi(lane) => lane.leaves_out(sampling),
        }
    }
}

impl Generate for Vertex {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        match &self.0 {
            Lane::Claude(lane) => lane.generate(job),
            Lane::Gemini(lane) => lane.generate(job),
            Lane::OpenAi(lane) => lane.generate(job),
        }
    }
}

/// The whole address, but for open models, where it is the base of OpenAI's paths.
fn address(settings: &VertexSettings) -> String {
    let VertexSettings { remote, project, location, family, .. } = settings;
    let base = remote.endpoint.base();
    let version = if base.ends_with("/v1") || base.ends_with("/v1beta1") { "" } else { "/v1" };
    let (project, location, model) = (segment(project), segment(location), segment(bare(&remote.model)));
    let place = format!("{base}{version}/projects/{project}/locations/{location}");
    let (publisher, verb) = match family {
        VertexFamily::Claude => ("anthropic", "streamRawPredict"),
        VertexFamily::Gemini => ("google", "streamGenerateContent?alt=sse"),
        VertexFamily::Mistral => ("mistralai", "streamRawPredict"),
        VertexFamily::Open => return format!("{place}/endpoints/openapi"),
    };
    format!("{place}/publishers/{publisher}/models/{model}:{verb}")
}

/// A model's name without the maker before it, which some tools write.
fn bare(model: &str) -> &str {
    let makers = ["anthropic/", "google/", "mistralai/"];
    makers.iter().find_map(|maker| model.strip_prefix(maker)).unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_have_three_forms_of_hosts() {
        for (location, expected) in [
            ("global", "https://aiplatform.googleapis.com"),
            ("eu", "https://aiplatform.eu.rep.googleapis.com"),
            ("us", "https://aiplatform.us.rep.googleapis.com"),
            ("europe-west1", "https://europe-west1-aiplatform.googleapis.com"),
            ("evil.test/", "https://evil.test%2F-aiplatform.googleapis.com"),
        ] {
            assert_eq!(Vertex::base(location), expected);
        }
    }

    #[test]
    fn names_tell_the_family() {
        for (model, family) in [
            ("claude-sonnet-4-5@20250929", VertexFamily::Claude),
            ("anthropic/claude-opus-4-7", VertexFamily::Claude),
            ("gemini-2.5-flash", VertexFamily::Gemini),
            ("codestral-2501", VertexFamily::Mistral),
            ("mistral-medium-3", VertexFamily::Mistral),
            ("meta/llama-4-maverick-17b-128e-instruct-maas", VertexFamily::Open),
            ("", VertexFamily::Open),
        ] {
            assert_eq!(VertexFamily::of(model), family, "{model}");
        }
    }
}
