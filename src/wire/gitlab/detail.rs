//! Bodies of errors in the form of the gateway's framework: `{"detail": …}`.

use serde::{Serialize, Serializer};

/// One sentence.
#[derive(Debug, Serialize)]
pub struct DetailBody<'a> {
    pub detail: &'a str,
}

/// One item for each thing that is wrong with a body; GitLab shows the first one's `msg` to administrators.
#[derive(Debug, Serialize)]
pub struct DetailListBody<'a> {
    pub detail: Vec<DetailItem<'a>>,
}

#[derive(Debug, Serialize)]
pub struct DetailItem<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub loc: Vec<LocationStep<'a>>,
    pub msg: &'a str,
}

/// A field's name, or the index of an item.
#[derive(Debug, PartialEq, Eq)]
pub enum LocationStep<'a> {
    Name(&'a str),
    Index(usize),
}

impl Serialize for LocationStep<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Index(index) => serializer.serialize_u64(*index as u64),
        }
    }
}
