//! `/v1/partitions`.

use serde_json::Value;

use super::definitions::Resource;
use crate::config::{self, Problems};
use crate::rules::{Edge, Partition, Ttl};
use crate::state::{Change, Defined, Draft, State};
use crate::wire::{PartitionItem, Standing};

pub(super) enum Partitions {}

impl Resource for Partitions {
    const WHAT: &'static str = "partition";
    const PATH: &'static str = "/v1/partitions";
    const EITHER: &'static [&'static str] = &["between", "isolate", "ring", "split"];
    const SHAPE: &'static str = "Partition";
    type Definition = Partition;
    type Item = PartitionItem;

    fn decode(body: &Value, edges: &[Edge]) -> Result<Partition, Problems> {
        let mut body = body.clone();
        let empty = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
        // An item tells of nobody as `[]`; in a file that would be a slip.
        if let Value::Object(keys) = &mut body
            && keys.get("deaf").is_some_and(empty)
        {
            keys.shift_remove("deaf");
        }
        config::partition_from_json(&body, edges)
    }
    fn all(state: &State) -> (u64, Vec<Defined<Partition>>) {
        state.partitions()
    }
    fn find(draft: &Draft, name: &str) -> Option<Defined<Partition>> {
        let mut all = draft.partitions();
        all.find(|d| d.definition.name == name).cloned()
    }
    fn name(partition: &Partition) -> &str {
        &partition.name
    }
    fn item(state: &State, partition: &Partition, standing: Standing) -> PartitionItem {
        let services = state.services();
        let services: Vec<_> = services.iter().map(String::as_str).collect();
        PartitionItem::new(partition, &services, state.seed(), standing)
    }
    fn to_json(partition: &Partition) -> Value {
        config::partition_to_json(partition)
    }
    fn add(partition: Partition) -> Change {
        Change::AddPartition(partition)
    }
    fn put(partition: Partition) -> Change {
        Change::PutPartition(partition)
    }
    fn remove(name: String) -> Change {
        Change::RemovePartition(name)
    }
    fn switch(name: String, on: bool, ttl: Ttl) -> Change {
        Change::SwitchPartition(name, on, ttl)
    }
}
