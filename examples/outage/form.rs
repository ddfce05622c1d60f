//! The form of a scenario, and what is wrong with one that is refused.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::outage::scenario::{Fault, Kind, Load, Refused, Scenario, Target, WORK};

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let form: Form = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, &span));
            Refused { line, reason: error.message().trim().replace('\n', ", ") }
        })?;
        Reader { text }.scenario(&form)
    }
}

/// The file as serde sees it. Flat, since a span does not survive a tagged enum.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    name: String,
    seconds: Spanned<i64>,
    rate: Spanned<i64>,
    instances: Spanned<i64>,
    work: Option<Spanned<Length>>,
    #[serde(default)]
    load: Vec<LoadForm>,
    #[serde(default)]
    fault: Vec<FaultForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadForm {
    at: Spanned<Length>,
    rate: Spanned<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultForm {
    kind: Spanned<String>,
    at: Spanned<Length>,
    #[serde(rename = "for")]
    lasts: Option<Spanned<Length>>,
    target: Spanned<String>,
    latency: Option<Spanned<Length>>,
    jitter: Option<Spanned<Length>>,
    status: Option<Spanned<i64>>,
    share: Option<Spanned<f64>>,
    retry_after: Option<Spanned<Length>>,
}

struct Length(Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"400ms\" or \"3s\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Length, E> {
                duration(text).map(Length).ok_or_else(|| {
                    E::custom(format!("\"{text}\" is no duration; write \"400ms\" or \"3s\""))
                })
            }
        }
        deserializer.deserialize_str(Written)
    }
}

/// "400ms" or "3s" or "1.5s".
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    if !number.starts_with(|c: char| c.is_ascii_digit())
        || !number.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return None;
    }
    let seconds = number.parse::<f64>().ok()? * unit;
    // Rounded to the microsecond, so that "100ms" is 100 ms in spite of the 0.001 above.
    Duration::try_from_secs_f64(seconds).ok().map(|exact| {
        Duration::from_micros(u64::try_from((exact.as_nanos() + 500) / 1000).unwrap_or(u64::MAX))
    })
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let upto = span.start.min(text.len());
    text.as_bytes()[..upto].iter().filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn scenario(&self, form: &Form) -> Result<Scenario, Refused> {
        let seconds = self.whole(&form.seconds, "seconds", 1, 3600)?;
        let instances = self.whole(&form.instances, "instances", 1, 20)?;
        let end = Duration::from_secs(seconds);
        let mut loads: Vec<Load> = Vec::new();
        for load in &form.load {
            let at = self.within(&load.at, end)?;
            if loads.last().is_some_and(|before| before.at >= at) {
                return Err(self.refuse(
                    &load.at.span(),
                    "this change of rate comes before the \
                    one above it; write them in the order of their time",
                ));
            }
            loads.push(Load { at, rate: self.rate(&load.rate)? });
        }
        let instances = usize::try_from(instances).unwrap_or(usize::MAX);
        let faults = form.fault.iter().map(|fault| self.fault(fault, end, instances));
        Ok(Scenario {
            name: form.name.clone(),
            seconds,
            rate: self.rate(&form.rate)?,
            instances,
            work: self.work(form)?,
            loads,
            faults: faults.collect::<Result<_, _>>()?,
        })
    }

    fn work(&self, form: &Form) -> Result<Duration, Refused> {
        let Some(work) = &form.work else {
            return Ok(WORK);
        };
        let time = work.get_ref().0;
        if time.is_zero() || time > Duration::from_secs(1) {
            return Err(self.refuse(
                &work.span(),
                format!("a charge can't take {time:?}; write a time above 0 and up to \"1s\""),
            ));
        }
        Ok(time)
    }

    fn fault(&self, form: &FaultForm, end: Duration, instances: usize) -> Result<Fault, Refused> {
        let kind = self.kind(form)?;
        let at = self.within(&form.at, end)?;
        if let Some(lasts) = &form.lasts {
            let length = lasts.get_ref().0;
            if length.is_zero() {
                return Err(self.refuse(&lasts.span(), "`for` must be longer than nothing"));
            }
            if at + length > end {
                return Err(self.refuse(
                    &lasts.span(),
                    format!(
                        "this fault ends at {:?}, after the drill, which ends at {end:?}; make it \
                     shorter or the drill longer",
                        at + length
                    ),
                ));
            }
        } else if !kind.changes_the_list() {
            return Err(self.refuse(
                &form.kind.span(),
                format!("a `{}` needs its length; add for = \"2s\"", kind.name()),
            ));
        }
        Ok(Fault {
            kind,
            at,
            lasts: form.lasts.as_ref().map(|lasts| lasts.get_ref().0),
            target: self.target(&form.target, instances)?,
            line: line_of(self.text, &form.kind.span()),
        })
    }

    fn kind(&self, form: &FaultForm) -> Result<Kind, Refused> {
        let name = form.kind.get_ref().as_str();
        let allowed: &[&str] = match name {
            "slow" => &["latency", "jitter", "share"],
            "fail" => &["status", "share"],
            "overload" => &["retry_after", "share"],
            "lose_answer" | "stall_body" => &["share"],
            _ => &[],
        };
        let given = [
            ("latency", form.latency.as_ref().map(Spanned::span)),
            ("jitter", form.jitter.as_ref().map(Spanned::span)),
            ("status", form.status.as_ref().map(Spanned::span)),
            ("share", form.share.as_ref().map(Spanned::span)),
            ("retry_after", form.retry_after.as_ref().map(Spanned::span)),
        ];
        let known = Kind::NAMES.contains(&name);
        for (field, span) in given {
            let Some(span) = span.filter(|_| known && !allowed.contains(&field)) else {
                continue;
            };
            let right = match allowed {
                [] => "it has none of its own".to_owned(),
                some => format!("its own are {}", some.join(" and ")),
            };
            return Err(self.refuse(&span, format!("a `{name}` has no `{field}`; {right}")));
        }
        Ok(match name {
            "kill" => Kind::Kill,
            "hang" => Kind::Hang,
            "slow" => self.slow(form)?,
            "fail" => {
                let status = self.needed(form, form.status.as_ref(), "status = 503")?;
                let status = self.whole(status, "status", 400, 599)?;
                Kind::Fail {
                    status: u16::try_from(status).unwrap_or(500),
                    share: self.share(form)?,
                }
            }
            "sink" => Kind::Sink,
            "refuse" => Kind::Refuse,
            "overload" => {
                let after = self.needed(form, form.retry_after.as_ref(), "retry_after = \"1s\"")?;
                if after.get_ref().0.subsec_nanos() != 0 {
                    return Err(self.refuse(
                        &after.span(),
                        "`retry_after` must be whole seconds, \
                        like \"1s\", since the header Retry-After can't say less",
                    ));
                }
                Kind::Overload { retry_after: after.get_ref().0, share: self.share(form)? }
            }
            "lose_answer" => Kind::LoseAnswer { share: self.share(form)? },
            "stall_body" => Kind::StallBody { share: self.share(form)? },
            "leave" => Kind::Leave,
            "join" => Kind::Join,
            _ => {
                return Err(self.refuse(
                    &form.kind.span(),
                    format!("there is no fault \"{name}\"; there are {}", Kind::NAMES.join(", ")),
                ));
            }
        })
    }

    fn slow(&self, form: &FaultForm) -> Result<Kind, Refused> {
        let latency = self.needed(form, form.latency.as_ref(), "latency = \"400ms\"")?.get_ref().0;
        let share = self.share(form)?;
        let Some(jitter) = &form.jitter else {
            return Ok(Kind::Slow { latency, jitter: Duration::ZERO, share });
        };
        if jitter.get_ref().0 > latency {
            return Err(self.refuse(
                &jitter.span(),
                "`jitter` goes both ways, so it can't be more than `latency`",
            ));
        }
        Ok(Kind::Slow { latency, jitter: jitter.get_ref().0, share })
    }

    fn share(&self, form: &FaultForm) -> Result<f64, Refused> {
        let Some(share) = &form.share else {
            return Ok(1.0);
        };
        let value = *share.get_ref();
        if value > 0.0 && value <= 1.0 {
            return Ok(value);
        }
        Err(self.refuse(
            &share.span(),
            format!("a `share` of {value} can't be; write a number above 0 and up to 1, like 0.5"),
        ))
    }

    fn target(&self, form: &Spanned<String>, instances: usize) -> Result<Target, Refused> {
        let text = form.get_ref().as_str();
        let right = format!(
            "write \"payments/1\" to \"payments/{instances}\", \"payments/*\" for all, or \
             \"payments/2 of {instances}\" for two drawn from the seed"
        );
        let refuse = |reason: &str| self.refuse(&form.span(), format!("{reason}; {right}"));
        let Some(which) = text.strip_prefix("payments/") else {
            return Err(refuse(&format!("there is no target \"{text}\"")));
        };
        if which == "*" {
            return Ok(Target::All);
        }
        if let Some((count, total)) = which.split_once(" of ") {
            return match (count.parse::<usize>(), total.parse::<usize>()) {
                (Ok(count), Ok(total)) if total == instances && (1..=total).contains(&count) => {
                    Ok(Target::Drawn(count))
                }
                (Ok(_), Ok(total)) if total != instances => {
                    Err(refuse(&format!("\"{text}\" counts {total} instances of {instances}")))
                }
                _ => Err(refuse(&format!("\"{text}\" can't be drawn"))),
            };
        }
        match which.parse::<usize>() {
            Ok(one) if (1..=instances).contains(&one) => Ok(Target::One(one)),
            _ => Err(refuse(&format!("there is no \"{text}\""))),
        }
    }

    fn within(&self, at: &Spanned<Length>, end: Duration) -> Result<Duration, Refused> {
        let time = at.get_ref().0;
        if time < end {
            return Ok(time);
        }
        Err(self.refuse(
            &at.span(),
            format!(
                "{time:?} is after the drill, which ends at {end:?}; write an earlier `at` or more \
             `seconds`"
            ),
        ))
    }

    fn rate(&self, form: &Spanned<i64>) -> Result<u32, Refused> {
        self.whole(form, "rate", 1, 20_000).map(|rate| u32::try_from(rate).unwrap_or(1))
    }

    fn whole(&self, form: &Spanned<i64>, name: &str, low: i64, high: i64) -> Result<u64, Refused> {
        let value = *form.get_ref();
        match u64::try_from(value) {
            Ok(number) if (low..=high).contains(&value) => Ok(number),
            _ => Err(self.refuse(
                &form.span(),
                format!("`{name}` can't be {value}; write a whole number from {low} to {high}"),
            )),
        }
    }

    fn needed<'a, T>(
        &self,
        form: &FaultForm,
        field: Option<&'a Spanned<T>>,
        right: &str,
    ) -> Result<&'a Spanned<T>, Refused> {
        field.ok_or_else(|| {
            let name = form.kind.get_ref();
            let field = right.split(' ').next().unwrap_or(right);
            self.refuse(&form.kind.span(), format!("a `{name}` needs its `{field}`; add {right}"))
        })
    }

    fn refuse(&self, span: &Range<usize>, reason: impl Into<String>) -> Refused {
        Refused { line: line_of(self.text, span), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"x\"\nseconds = 30\nrate = 200\ninstances = 5\n";

    fn refusal(rest: &str) -> String {
        match Scenario::parse(&format!("{HEAD}{rest}")) {
            Ok(scenario) => format!("accepted: {scenario:?}"),
            Err(refused) => refused.to_string(),
        }
    }

    #[test]
    fn reads_the_form_of_the_documentation() {
        let text = r#"
name = "two dead, one slow"
seconds = 30
rate = 200                      # calls per second, open loop
instances = 5
work = "20ms"
[[load]]                        # changes of rate, optional
at = "10s"
rate = 400
[[fault]]
kind = "slow"
at = "3s"
for = "6s"
target = "payments/2"
latency = "400ms"
jitter = "100ms"
share = 0.5
[[fault]]
kind = "leave"
at = "1.5s"
target = "payments/2 of 5"
"#;
        let scenario = Scenario::parse(text).expect("the documented form is read");
        assert_eq!(scenario.work, Duration::from_millis(20));
        assert_eq!(scenario.loads, [Load { at: Duration::from_secs(10), rate: 400 }]);
        assert_eq!(
            scenario.faults[0],
            Fault {
                kind: Kind::Slow {
                    latency: Duration::from_millis(400),
                    jitter: Duration::from_millis(100),
                    share: 0.5,
                },
                at: Duration::from_secs(3),
                lasts: Some(Duration::from_secs(6)),
                target: Target::One(2),
                line: 11,
            }
        );
        assert_eq!(scenario.faults[1].at, Duration::from_millis(1500));
        assert_eq!(scenario.faults[1].target, Target::Drawn(2));
    }

    #[test]
    fn refuses_with_the_line_and_what_would_be_right() {
        let cases = [
            (
                "[[fault]]\nkind = \"boom\"\nat = \"1s\"\ntarget = \"payments/1\"",
                "line 6: there is no fault \"boom\"; there are kill, hang",
            ),
            (
                "[[fault]]\nkind = \"kill\"\nat = \"1 sec\"\nfor = \"1s\"\ntarget = \"payments/1\"",
                "line 7: \"1 sec\" is no duration; write \"400ms\" or \"3s\"",
            ),
            (
                "[[fault]]\nkind = \"kill\"\nat = 1\nfor = \"1s\"\ntarget = \"payments/1\"",
                "line 7: invalid type: integer `1`, expected a duration like \"400ms\" or \"3s\"",
            ),
            (
                "[[fault]]\nkind = \"kill\"\nat = \"1s\"\ntarget = \"payments/1\"",
                "line 6: a `kill` needs its length; add for = \"2s\"",
            ),
            (
                "[[fault]]\nkind = \"kill\"\nat = \"29s\"\nfor = \"2s\"\ntarget = \"payments/1\"",
                "line 8: this fault ends at 31s, after the drill, which ends at 30s",
            ),
            (
                "[[fault]]\nkind = \"sink\"\nat = \"1s\"\nfor = \"1s\"\ntarget = \"payments/6\"",
                "line 9: there is no \"payments/6\"; write \"payments/1\" to \"payments/5\"",
            ),
            (
                "[[fault]]\nkind = \"sink\"\nat = \"1s\"\nfor = \"1s\"\ntarget = \"payments/2 of 4\"",
                "line 9: \"payments/2 of 4\" counts 4 instances of 5; write",
            ),
            (
                "[[fault]]\nkind = \"fail\"\nat = \"1s\"\nfor = \"1s\"\ntarget = \"payments/1\"",
                "line 6: a `fail` needs its `status`; add status = 503",
            ),
            (
                "[[fault]]\nkind = \"fail\"\nat = \"1s\"\nfor = \"1s\"\ntarget = \"payments/1\"\n\
              status = 200",
                "line 10: `status` can't be 200; write a whole number from 400 to 599",
            ),
            (
                "[[fault]]\nkind = \"stall_body\"\nat = \"1s\"\nfor = \"1s\"\n\
              target = \"payments/1\"\nshare = 1.5",
                "line 10: a `share` of 1.5 can't be; write a number above 0 and up to 1",
            ),
            (
                "[[fault]]\nkind = \"hang\"\nat = \"1s\"\nfor = \"1s\"\ntarget = \"payments/1\"\n\
              latency = \"1s\"",
                "line 10: a `hang` has no `latency`; it has none of its own",
            ),
            (
                "[[fault]]\nkind = \"overload\"\nat = \"1s\"\nfor = \"1s\"\n\
              target = \"payments/1\"\nretry_after = \"200ms\"",
                "line 10: `retry_after` must be whole seconds",
            ),
            ("[[load]]\nat = \"2s\"\nrate = 0", "line 7: `rate` can't be 0; write a whole number"),
            ("work = \"2s\"", "line 5: a charge can't take 2s; write a time above 0 and up to"),
            ("speed = 3", "line 5: unknown field `speed`, expected one of `name`, `seconds`"),
            ("[[fault]\n", "line 5: "),
        ];
        for (rest, expected) in cases {
            let said = refusal(rest);
            assert!(said.starts_with(expected), "for {rest}\nit said {said}\nnot {expected}");
        }
    }

    #[test]
    fn reads_durations_exactly() {
        assert_eq!(duration("400ms"), Some(Duration::from_millis(400)));
        assert_eq!(duration("0.1s"), Some(Duration::from_millis(100)));
        for wrong in ["", "s", "ms", "-1s", "1m", "1e3s", "nans", "infs", " 1s", "1.2.3s"] {
            assert_eq!(duration(wrong), None, "{wrong} was read");
        }
    }
}
