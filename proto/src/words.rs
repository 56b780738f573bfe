//! Words for people: numbers with their nouns, and what strangers wrote.

/// `1 image`, `2 images`; for nouns that add an s.
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `text` with everything escaped that would break a line or steer a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "image")), ["0 images", "1 image", "2 images"]);
    }

    #[test]
    fn what_strangers_wrote_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\"é\u{202e}"), "a\\u{1b}[2Jb\\n\"é\\u{202e}");
    }
}
