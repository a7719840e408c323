//! `firedrill reload`.

use super::Failure;
use super::output::{Output, clean};
use super::targets::{self, Targets};
use crate::wire::Reloaded;

pub(super) async fn run(targets: &Targets, out: &Output) -> Result<(), Failure> {
    let reloaded = targets.ask(async |client| client.reload().await).await;
    targets::print(out, reloaded, text)
}

fn text(reloaded: &Reloaded) -> String {
    let Reloaded {
        generation,
        changed,
        restart,
    } = reloaded;
    let mut lines = match changed.len() {
        0 => vec![format!(
            "reloaded; nothing is different (generation {generation})"
        )],
        n => vec![format!("reloaded; {n} changed (generation {generation})")],
    };
    for touched in changed {
        let line = format!("{} {} {}", touched.sort, touched.name, touched.what);
        lines.push(clean(&line));
    }
    if !restart.is_empty() {
        lines.push(format!(
            "only after a restart: {}",
            clean(&restart.join(", "))
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_is_named() {
        let reloaded = |text| serde_json::from_str::<Reloaded>(text).unwrap();
        let some = reloaded(
            r#"{"generation": 7, "changed": [{"sort": "rule", "name": "slow", "what": "replaced"}],
                "restart": ["control.listen", "seed"]}"#,
        );
        insta::assert_snapshot!(text(&some), @r#"
        reloaded; 1 changed (generation 7)
        rule slow replaced
        only after a restart: control.listen, seed
        "#);
        let none = reloaded(r#"{"generation": 7, "changed": [], "restart": []}"#);
        assert_eq!(text(&none), "reloaded; nothing is different (generation 7)");
    }
}
