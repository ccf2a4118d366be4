//! Code around a cursor in the words of a remote model.

use crate::domain::Infill;

/// How a provider is asked for the middle.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum InfillForm {
    /// Not at all: its model was not trained for it.
    #[default]
    None,
    /// As text between the model's own markers, to `/completions`.
    Template(InfillTemplate),
    /// As `prompt` and `suffix`, to `/completions`.
    Suffix,
    /// As `prompt` and `suffix`, to `/fim/completions` (Mistral's).
    Fim,
}

/// The text of an infill prompt, from the model's card.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InfillTemplate {
    pub parts: Vec<InfillPart>,
    /// Markers that end the middle.
    pub stop: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfillPart {
    Literal(String),
    Prefix,
    Suffix,
}

impl InfillTemplate {
    /// Markers in the caller's own code are taken apart by a blank behind their first character: the other side would read
    /// them as tokens, and code must not move the hole it is about.
    pub fn render(&self, infill: &Infill) -> String {
        let markers = self.parts.iter().filter_map(|part| match part {
            InfillPart::Literal(text) => Some(text.as_str()),
            InfillPart::Prefix | InfillPart::Suffix => None,
        });
        let markers: Vec<&str> = markers.chain(self.stop.iter().map(String::as_str)).map(str::trim).collect();
        let mut text = String::with_capacity(infill.prefix.len() + infill.suffix.len() + 64);
        for part in &self.parts {
            match part {
                InfillPart::Literal(literal) => text.push_str(literal),
                InfillPart::Prefix => text.push_str(&harmless(&infill.prefix, &markers)),
                InfillPart::Suffix => text.push_str(&harmless(&infill.suffix, &markers)),
            }
        }
        text
    }
}

fn harmless(code: &str, markers: &[&str]) -> String {
    let mut code = code.to_owned();
    for marker in markers {
        // A single character cannot be taken apart, and is no marker.
        let Some((at, _)) = marker.char_indices().nth(1) else { continue };
        if code.contains(marker) {
            code = code.replace(marker, &format!("{} {}", &marker[..at], &marker[at..]));
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_ours_alone() {
        let literal = |text: &str| InfillPart::Literal(text.to_owned());
        let template = InfillTemplate {
            parts: vec![
                literal("<PRE> "),
                InfillPart::Prefix,
                literal(" <SUF>"),
                InfillPart::Suffix,
                literal(" <MID>"),
            ],
            stop: vec!["<EOT>".to_owned()],
        };
        let check = |prefix: &str, suffix: &str, expected: &str| {
            let infill = Infill { prefix: prefix.to_owned(), suffix: suffix.to_owned() };
            assert_eq!(template.render(&infill), expected);
        };
        check("a(", ")\n", "<PRE> a( <SUF>)\n <MID>");
        check("", "", "<PRE>  <SUF> <MID>");
        check("<MID>", "x<EOT><SUF>", "<PRE> < MID> <SUF>x< EOT>< SUF> <MID>");
    }
}
