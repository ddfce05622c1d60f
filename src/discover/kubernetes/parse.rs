//! What the API server answers: the parts of `EndpointSlice` that are used, and the watch.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/> and
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use serde::{Deserialize, Deserializer};

use crate::discover::{http::malformed, registry::Fault};

/// `EndpointSliceList`.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    pub(super) metadata: Version,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) items: Vec<Slice>,
}

/// The part of any object's metadata that a watch goes on from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Version {
    pub(super) resource_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    pub(super) metadata: Metadata,
    pub(super) address_type: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ports: Vec<Port>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) endpoints: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    #[serde(default)]
    pub(super) resource_version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Port {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) port: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) conditions: Conditions,
    #[serde(default)]
    pub(super) zone: Option<String>,
    #[serde(default)]
    pub(super) hints: Option<Hints>,
    #[serde(default)]
    pub(super) target_ref: Option<Target>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Conditions {
    #[serde(default)]
    ready: Option<bool>,
    #[serde(default)]
    serving: Option<bool>,
    #[serde(default)]
    terminating: Option<bool>,
}

impl Conditions {
    /// Nobody says otherwise, so it is.
    pub(super) fn ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// It goes, and still serves whom it must.
    pub(super) fn serving_its_last(&self) -> bool {
        self.serving.unwrap_or(true) && self.terminating.unwrap_or(false)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hints {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) for_zones: Vec<Named>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) for_nodes: Vec<Named>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    #[serde(default)]
    pub(super) name: String,
}

/// `WatchEvent`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(super) enum Event {
    Added(Slice),
    Modified(Slice),
    Deleted(Slice),
    Bookmark(Bookmark),
    Error(Status),
}

/// Nothing but a version.
#[derive(Debug, Deserialize)]
pub(super) struct Bookmark {
    pub(super) metadata: Version,
}

/// Why a watch failed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: i64,
    pub(super) reason: String,
    pub(super) message: String,
}

pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| malformed(what, error))
}

/// `null` is the default as well: Go writes it for a list that is nil.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
