//! `delay`: held that long, counted from arrival.

use std::time::Duration;

use super::{Act, Args, Chunk, Directions, Fault, Invalid, Kind, Param, Type, Verdict};
use crate::operation::{Direction, Layer, Request, Response};
use crate::seed::Draw;

pub(super) static KIND: Kind = Kind {
    name: "delay",
    summary: "held that long, counted from arrival; order is kept, several add up",
    layers: &[Layer::Stream, Layer::Message],
    directions: Directions::Either {
        message: Direction::Upstream,
    },
    params: &[
        Param {
            name: "latency",
            ty: Type::Duration,
            default: None,
            help: "how long",
        },
        Param {
            name: "jitter",
            ty: Type::Duration,
            default: Some("0"),
            help: "how far delays lie from `latency`: see `distribution`",
        },
        Param {
            name: "distribution",
            ty: Type::Choice(&["uniform", "normal", "lognormal", "pareto"]),
            default: Some("uniform"),
            help: "uniform: within `jitter`; normal: deviation `jitter`; the others: a tail",
        },
        Param {
            name: "correlation",
            ty: Type::Ratio,
            default: Some("0"),
            help: "how much a delay depends on the one before it",
        },
    ],
    lifted: Some("what is held goes at once"),
    build,
};

fn build(args: &Args) -> Result<Box<dyn Fault>, Invalid> {
    let latency = args.duration("latency").unwrap_or_default();
    let jitter = args.duration("jitter").unwrap_or_default();
    let spread = match args.choice("distribution") {
        Some("normal") => Spread::Normal,
        Some("lognormal") => Spread::Lognormal,
        Some("pareto") => Spread::Pareto,
        _ => Spread::Uniform,
    };
    if spread == Spread::Lognormal && latency.is_zero() {
        return Err(Invalid {
            param: "latency",
            message: "a lognormal delay spreads around `latency`, which must not be 0".to_owned(),
        });
    }
    Ok(Box::new(Delay {
        latency,
        jitter,
        spread,
        correlation: args.ratio("correlation").unwrap_or_default(),
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    Uniform,
    Normal,
    Lognormal,
    Pareto,
}

#[derive(Debug, Clone)]
struct Delay {
    latency: Duration,
    jitter: Duration,
    spread: Spread,
    correlation: f64,
}

impl Delay {
    /// A delay of this distribution; `L` is the latency, `J` the jitter, never below zero:
    ///
    /// - uniform: in `[L − J, L + J)`;
    /// - normal: mean `L`, standard deviation `J` (Box and Muller, 1958);
    /// - lognormal: median `L`, `σ = ln(1 + J/L)`, so that `L + J` lies one σ above;
    /// - pareto: `L − J` at the least, then a tail of shape 3 whose mean lies at `L + J/2`.
    fn draw(&self, draw: &mut Draw) -> Duration {
        if self.jitter.is_zero() {
            return self.latency;
        }
        let (l, j) = (self.latency.as_secs_f64(), self.jitter.as_secs_f64());
        let secs = match self.spread {
            Spread::Uniform => l - j + 2.0 * j * draw.unit(),
            Spread::Normal => l + j * gauss(draw),
            Spread::Lognormal => l * ((1.0 + j / l).ln() * gauss(draw)).exp(),
            Spread::Pareto => l - j + 3.0 * j * ((1.0 - draw.unit()).powf(-1.0 / 3.0) - 1.0),
        };
        Duration::try_from_secs_f64(secs.max(0.0)).map_or(crate::units::MAX_DURATION, |d| {
            d.min(crate::units::MAX_DURATION)
        })
    }
}

fn gauss(draw: &mut Draw) -> f64 {
    let (u, v) = (1.0 - draw.unit(), draw.unit());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

impl Fault for Delay {
    fn act(&self, draw: Draw, _proxy: &str) -> Box<dyn Act> {
        Box::new(Delaying {
            fault: self.clone(),
            draw,
            last: None,
        })
    }
}

#[derive(Debug)]
struct Delaying {
    fault: Delay,
    draw: Draw,
    last: Option<Duration>,
}

impl Delaying {
    fn hold(&mut self) -> Verdict {
        let drawn = self.fault.draw(&mut self.draw);
        // As netem's: a mean of this draw and what the last one gave.
        let ratio = self.fault.correlation;
        let delay = self.last.map_or(drawn, |last| {
            drawn.mul_f64(1.0 - ratio) + last.mul_f64(ratio)
        });
        self.last = Some(delay);
        match delay {
            Duration::ZERO => Verdict::Pass,
            held => Verdict::Hold(held),
        }
    }
}

impl Act for Delaying {
    fn on_request(&mut self, _request: &Request<'_>, _at: Duration) -> Verdict {
        self.hold()
    }
    fn on_response(&mut self, _response: &Response<'_>) -> Verdict {
        self.hold()
    }
    fn on_chunk(&mut self, _chunk: &Chunk) -> Verdict {
        self.hold()
    }
    fn on_eof(&mut self, _direction: Direction) -> Verdict {
        self.hold()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(spread: Spread) -> Vec<f64> {
        let fault = Delay {
            latency: Duration::from_millis(100),
            jitter: Duration::from_millis(20),
            spread,
            correlation: 0.0,
        };
        let mut draw = Draw::new(1, "d", 1, 1);
        let mut all: Vec<f64> = (0..20_000)
            .map(|_| fault.draw(&mut draw).as_secs_f64() * 1e3)
            .collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn mean(all: &[f64]) -> f64 {
        all.iter().sum::<f64>() / all.len() as f64
    }

    #[test]
    fn distributions_are_what_they_are_called() {
        let uniform = samples(Spread::Uniform);
        assert!(uniform[0] >= 80.0 && uniform[19_999] < 120.0);
        assert!((mean(&uniform) - 100.0).abs() < 0.5);

        let normal = samples(Spread::Normal);
        assert!((mean(&normal) - 100.0).abs() < 0.5);
        assert!(
            (normal[16_827] - 120.0).abs() < 1.0,
            "one sigma up is the 84th percentile"
        );

        let lognormal = samples(Spread::Lognormal);
        assert!((lognormal[10_000] - 100.0).abs() < 0.7);
        assert!((lognormal[16_827] - 120.0).abs() < 1.0);

        let pareto = samples(Spread::Pareto);
        assert!(pareto[0] >= 80.0);
        assert!((mean(&pareto) - 110.0).abs() < 1.5);
        assert!(pareto[19_999] > 300.0, "a heavy tail");
    }

    #[test]
    fn jitter_larger_than_latency_never_goes_below_zero() {
        let fault = Delay {
            latency: Duration::from_millis(1),
            jitter: Duration::from_secs(1),
            spread: Spread::Normal,
            correlation: 0.0,
        };
        let mut draw = Draw::new(1, "d", 1, 1);
        assert!((0..1000).any(|_| fault.draw(&mut draw).is_zero()));
    }
}
