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

/// An address without what may be a secret in it: a user and password, and what follows a `?`.
pub fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_string() };
    let (path, query) = rest.split_once('?').map_or((rest, ""), |(path, _)| (path, "?…"));
    let (authority, below) = match path.find('/') {
        Some(slash) => path.split_at(slash),
        None => (path, ""),
    };
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{below}{query}"),
        None => format!("{scheme}://{path}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (address, shown) in [
            ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
            ("s3://key:secret@bucket/x", "s3://…@bucket/x"),
            ("https://u:p@w@host", "https://…@host"),
            ("az://container/x?sig=secret", "az://container/x?…"),
            ("/folder/a@b?c", "/folder/a@b?c"),
        ] {
            assert_eq!(without_secrets(address), shown);
        }
    }

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "image")), ["0 images", "1 image", "2 images"]);
    }

    #[test]
    fn what_strangers_wrote_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\"é\u{202e}"), "a\\u{1b}[2Jb\\n\"é\\u{202e}");
    }
}
