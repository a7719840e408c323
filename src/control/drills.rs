//! `/v1/drills`: what drills have on here now.
//!
//! A drill runs somewhere else, and is a controller like others; by its name it is known. Nothing is
//! kept of it: when all that it set is off it is gone from here.

use axum::Json;
use axum::extract::State as Shared;

use super::App;
use super::definitions::items;
use super::partitions::Partitions;
use super::routes::{Api, Route};
use super::rules::Rules;
use crate::clock::Timestamp;
use crate::wire::{DRILL, DrillItem, List, Standing};

pub(super) fn routes(api: Api) -> Api {
    let route = Route::new("listDrills", "What drills have on here now")
        .about("A drill is a controller whose name begins with `drill:`; it runs somewhere else.");
    api.get(
        "/v1/drills",
        list,
        route.lists::<DrillItem>("Those that have something on, in the order of their definitions"),
    )
}

async fn list(Shared(app): Shared<App>) -> Json<List<DrillItem>> {
    let state = &app.context.state;
    let (rules, partitions) = (items::<Rules>(state), items::<Partitions>(state));
    let mut drills: Vec<DrillItem> = Vec::new();
    let on = rules.items.iter().filter(|rule| rule.enabled);
    for rule in on {
        if let Some(drill) = of(&mut drills, &rule.standing) {
            drill.rules.push(rule.name.clone());
        }
    }
    let on = partitions.items.iter().filter(|part| part.enabled);
    for partition in on {
        if let Some(drill) = of(&mut drills, &partition.standing) {
            drill.partitions.push(partition.name.clone());
        }
    }
    Json(List {
        generation: rules.generation.max(partitions.generation),
        items: drills,
    })
}

/// The drill that turned something on, which is then on until that ends; `None`: none did.
fn of<'d>(drills: &'d mut Vec<DrillItem>, standing: &Standing) -> Option<&'d mut DrillItem> {
    let controller = standing.controller.as_deref()?;
    let run = controller.strip_prefix(DRILL)?;
    let known = drills
        .iter()
        .position(|drill| drill.controller == controller);
    let n = known.unwrap_or_else(|| {
        let name = run.rsplit_once('-').map_or(run, |(name, _)| name);
        drills.push(DrillItem {
            name: name.to_owned(),
            controller: controller.to_owned(),
            rules: Vec::new(),
            partitions: Vec::new(),
            until: Some(Timestamp(0)),
        });
        drills.len() - 1
    });
    let drill = drills.get_mut(n)?;
    // What has no end outlasts what has one.
    drill.until = drill.until.zip(standing.expires_at).map(|(a, b)| a.max(b));
    Some(drill)
}
