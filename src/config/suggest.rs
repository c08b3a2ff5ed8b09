//! "Did you mean": the known name that is nearest to what was written.

/// Below this likeness (0 to 1) a suggestion would puzzle more than it helps.
const LIKENESS_MIN: f64 = 0.8;

/// The most similar of `known`, if one is similar.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    let likeness = |name: &str| strsim::jaro_winkler(&written, &name.to_ascii_lowercase());
    let rated = known.iter().map(|name| (*name, likeness(name)));
    let best = rated.max_by(|(_, one), (_, other)| one.total_cmp(other));
    best.filter(|(_, likeness)| *likeness >= LIKENESS_MIN).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["listen", "hostKeys", "banner", "keepAlive", "loginGraceTime"];

        assert_eq!(nearest("hostkey", &known), Some("hostKeys"));
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("login_grace_time", &known), Some("loginGraceTime"));
        assert_eq!(nearest("zebra", &known), None);
    }
}
