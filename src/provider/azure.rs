//! Addresses of Azure OpenAI (learn.microsoft.com/azure/ai-foundry/openai/reference): which of its two APIs is meant shows
//! in their form.
//!
//! - `https://NAME.openai.azure.com/openai/v1`: the v1 API. The model is the name of a deployment.
//! - `https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=2024-10-21`: one deployment, in a dated
//!   version of the API. With `api-version` and no deployment in the address, the model names it.

use super::endpoint::{Endpoint, segment};
use super::habits::Habits;

/// For addresses of deployments that name none: the last version that is no preview.
const VERSION: &str = "2024-10-21";
/// Since then `max_completion_tokens` and `stream_options` are known; before, they are refused.
const CAPPED_SINCE: &str = "2024-09-01";

/// The address that paths are put behind, and the habits of the API there. Addresses that were copied whole are cut.
pub(super) fn settle(endpoint: &Endpoint, model: &str, habits: Habits) -> (Endpoint, Habits) {
    let base = endpoint.base();
    let base = base.strip_suffix("/chat/completions").unwrap_or(base);
    let version = version(endpoint.query());
    let is_of_deployment = base.contains("/openai/deployments/");
    // Previews of the v1 API want a version too, and so does the API for models of all makers.
    let is_whole = is_of_deployment || base.ends_with("/v1") || base.ends_with("/models");
    let base = match version {
        Some(_) if !is_whole => {
            let resource = base.strip_suffix("/openai").unwrap_or(base);
            format!("{resource}/openai/deployments/{}", segment(model))
        }
        _ => base.to_owned(),
    };
    if !base.contains("/openai/deployments/") {
        return (endpoint.moved(base, endpoint.query().to_owned()), habits);
    }
    let query = match (version, endpoint.query()) {
        (Some(_), query) => query.to_owned(),
        (None, "") => format!("?api-version={VERSION}"),
        (None, query) => format!("{query}&api-version={VERSION}"),
    };
    // Versions begin with their date, so they compare as text.
    let is_capped = version.unwrap_or(VERSION) >= CAPPED_SINCE;
    let max_tokens = if is_capped { habits.max_tokens } else { "max_tokens" };
    let asks_for_usage = habits.asks_for_usage && is_capped;
    (endpoint.moved(base, query), Habits { max_tokens, asks_for_usage, ..habits })
}

fn version(query: &str) -> Option<&str> {
    let mut fields = query.trim_start_matches('?').split('&').filter_map(|field| field.split_once('='));
    fields.find(|(name, _)| *name == "api-version").map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::super::habits::Kind;
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str, max_tokens: &str) {
        let habits = Habits::of(Kind::Azure);
        let (endpoint, settled) = settle(&Endpoint::new(address, None), "dep/1", habits);
        assert_eq!(endpoint.url("/chat/completions"), expected, "{address}");
        let is_capped = max_tokens == "max_completion_tokens";
        assert_eq!((settled.max_tokens, settled.asks_for_usage), (max_tokens, is_capped), "{address}");
    }

    #[test]
    fn the_api_shows_in_the_form_of_the_address() {
        let capped = "max_completion_tokens";
        let of = |path: &str| format!("https://r.openai.azure.com/openai/{path}");
        check(&of("v1/"), &of("v1/chat/completions"), capped);
        check(&of("v1?api-version=preview"), &of("v1/chat/completions?api-version=preview"), capped);
        check(&of("v1/chat/completions"), &of("v1/chat/completions"), capped);
        check(
            "https://r.services.ai.azure.com/models?api-version=2024-05-01-preview",
            "https://r.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
            capped,
        );
        let dated =
            |name: &str, version: &str| of(&format!("deployments/{name}/chat/completions?api-version={version}"));
        check(&of("deployments/d"), &dated("d", "2024-10-21"), capped);
        check(&of("deployments/d/?x=1"), &of("deployments/d/chat/completions?x=1&api-version=2024-10-21"), capped);
        check(&of("deployments/d?api-version=2025-01-01-preview"), &dated("d", "2025-01-01-preview"), capped);
        check(&dated("d", "2024-09-01-preview"), &dated("d", "2024-09-01-preview"), capped);
        check(&dated("d", "2024-06-01"), &dated("d", "2024-06-01"), "max_tokens");
        for root in ["", "/", "/openai", "/openai/"] {
            let address = format!("https://r.openai.azure.com{root}?api-version=2024-10-21");
            check(&address, &dated("dep%2F1", "2024-10-21"), capped);
        }
    }
}
