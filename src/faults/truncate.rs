//! `truncate`: the answer is cut.

use std::time::Duration;

use super::{Act, Args, Chunk, Directions, End, Fault, Invalid, Kind, Param, Side, Type, Verdict};
use crate::operation::{Direction, Layer, Response};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "truncate",
    summary: "the answer's body is cut, and the connection ends",
    layers: &[Layer::Body],
    directions: Directions::Fixed(Direction::Downstream),
    params: &[Param {
        name: "at",
        ty: Type::RatioOrSize,
        default: Some("0.5"),
        help: "a share of the body, or so many bytes; where the head tells no length, the share of the first piece that is read",
    }],
    lifted: None,
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let at = match args.size("at") {
        Some(bytes) => At::Bytes(bytes),
        None => At::Share(args.ratio("at").unwrap_or(0.5)),
    };
    Ok(Box::new(Truncate { at }))
}

#[derive(Debug, Clone, Copy)]
enum At {
    Bytes(u64),
    /// Of what is to come.
    Share(f64),
}

#[derive(Debug, Clone)]
struct Truncate {
    at: At,
}

/// A share of so many bytes, always less than all of them.
fn share(of: u64, share: f64) -> u64 {
    ((of as f64 * share) as u64).min(of.saturating_sub(1))
}

impl Fault for Truncate {
    fn act(&self, _draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(self.clone())
    }
}

impl Act for Truncate {
    fn on_response(&mut self, response: &Response<'_>) -> Verdict {
        if let (At::Share(of), Some(length)) = (self.at, response.length) {
            self.at = At::Bytes(share(length, of));
        }
        Verdict::Pass
    }

    fn on_body(&mut self, chunk: &Chunk) -> Verdict {
        if chunk.direction == Direction::Upstream {
            return Verdict::Pass;
        }
        let len = chunk.len as u64;
        let left = match self.at {
            At::Bytes(left) => left,
            At::Share(of) => share(len, of),
        };
        // A cut at the very end would be none.
        if left >= len {
            self.at = At::Bytes(left - len);
            return Verdict::Pass;
        }
        Verdict::Keep(
            left as usize,
            End {
                reset: false,
                side: Side::Both,
                after: Duration::ZERO,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(at: At, length: Option<u64>, pieces: &[usize]) -> Option<usize> {
        let mut act = Truncate { at };
        let response = Response {
            status: 200,
            headers: &[],
            length,
        };
        assert_eq!(act.on_response(&response), Verdict::Pass);
        let mut passed = 0;
        for len in pieces {
            let chunk = Chunk {
                direction: Direction::Downstream,
                len: *len,
                at: Duration::ZERO,
            };
            match act.on_body(&chunk) {
                Verdict::Pass => passed += len,
                Verdict::Keep(kept, _) => return Some(passed + kept),
                other => panic!("{other:?}"),
            }
        }
        None
    }

    #[test]
    fn it_cuts_where_it_says_however_the_body_is_read() {
        assert_eq!(kept(At::Share(0.5), Some(100), &[100]), Some(50));
        assert_eq!(kept(At::Share(0.5), Some(100), &[30, 30, 40]), Some(50));
        assert_eq!(kept(At::Bytes(60), None, &[30, 30, 1]), Some(60));
        assert_eq!(kept(At::Bytes(60), None, &[30, 30]), None, "it was shorter");
        assert_eq!(kept(At::Share(1.0), Some(100), &[100]), Some(99));
        assert_eq!(kept(At::Share(0.0), Some(100), &[100]), Some(0));
        assert_eq!(kept(At::Share(0.5), None, &[10, 10]), Some(5));
    }
}
