//! `firedrill heal`.

use super::Failure;
use super::output::Output;
use super::targets::{self, Targets};
use crate::wire::Healed;

pub(super) async fn run(targets: &Targets, out: &Output) -> Result<(), Failure> {
    let healed = targets.ask(async |client| client.heal().await).await;
    targets::print(out, healed, text)
}

fn text(healed: &Healed) -> String {
    let mut lines = Vec::new();
    for (what, names) in [("rule", &healed.rules), ("partition", &healed.partitions)] {
        if !names.is_empty() {
            let s = if names.len() == 1 { "" } else { "s" };
            lines.push(format!(
                "{} {what}{s} off: {}",
                names.len(),
                names.join(", ")
            ));
        }
    }
    if lines.is_empty() {
        return "healed; nothing was on".to_owned();
    }
    format!("healed\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_on_is_named() {
        let mut healed = Healed {
            generation: 7,
            rules: vec!["slow".to_owned(), "lost".to_owned()],
            partitions: vec!["split".to_owned()],
        };
        insta::assert_snapshot!(text(&healed), @r#"
        healed
        2 rules off: slow, lost
        1 partition off: split
        "#);
        healed.rules.clear();
        healed.partitions.clear();
        assert_eq!(text(&healed), "healed; nothing was on");
    }
}
