//! Which addresses of an instance are used that has several.

use std::net::IpAddr;

/// Which family of addresses is used of instances that have both.
///
/// Both would be the same instance twice, with twice its share of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// IPv4, or IPv6 if there is no other.
    #[default]
    PreferV4,
    /// IPv6, or IPv4 if there is no other.
    PreferV6,
    /// IPv4 and nothing else.
    OnlyV4,
    /// IPv6 and nothing else.
    OnlyV6,
}

impl Family {
    /// The order in which the families are looked for: whether each is IPv6.
    pub(super) const fn order(self) -> &'static [bool] {
        match self {
            Self::PreferV4 => &[false, true],
            Self::PreferV6 => &[true, false],
            Self::OnlyV4 => &[false],
            Self::OnlyV6 => &[true],
        }
    }

    /// Those of the first family that has any.
    #[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "DNS asks in that order"))]
    pub(super) fn pick<T>(self, mut all: Vec<T>, ip: impl Fn(&T) -> IpAddr) -> Vec<T> {
        let has = |v6: bool| all.iter().any(|it| ip(it).is_ipv6() == v6);
        let Some(&v6) = self.order().iter().find(|&&v6| has(v6)) else { return Vec::new() };
        all.retain(|it| ip(it).is_ipv6() == v6);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_is_picked() {
        let ips = |text: &[&str]| -> Vec<IpAddr> {
            text.iter().map(|ip| ip.parse().expect("an address")).collect()
        };
        let (v4, v6) = (ips(&["10.0.0.1", "10.0.0.2"]), ips(&["::1"]));
        let both = [v4.clone(), v6.clone()].concat();
        let pick = |family: Family, all: &[IpAddr]| family.pick(all.to_vec(), |ip| *ip);
        assert_eq!(pick(Family::PreferV4, &both), v4);
        assert_eq!(pick(Family::PreferV6, &both), v6);
        assert_eq!(pick(Family::PreferV4, &v6), v6);
        assert_eq!(pick(Family::OnlyV4, &v6), ips(&[]));
        assert_eq!(pick(Family::OnlyV6, &both), v6);
    }
}
