//! A page of HTML that stands by itself: whatever is shown is escaped here, and nowhere else.
//!
//! Promises: text that comes in shows as that text, whatever it holds; pictures are in the page, as data; nothing refers to
//! anything outside, and the page's own rule (its content security policy) lets no script run and nothing be fetched.

use base64::{Engine, engine::general_purpose::STANDARD};

/// What the page may load: its own styles and its own pictures.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --quiet: #777; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 21px; margin: 40px 0 4px; border-top: 1px solid var(--line); padding-top: 20px; }
h3 { font-size: 16px; margin: 26px 0 6px; } p { margin: 6px 0; } .quiet, footer { color: var(--quiet); }
code, pre, .path { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: #8881; padding: 10px 12px; overflow: auto; max-height: 420px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; } .bad { color: var(--bad); }
svg, img { max-width: 100%; height: auto; } .curve { background: #fff; }
.whole { overflow-x: auto; } .whole img { max-width: none; } footer { margin-top: 30px; }
.row { display: flex; flex-wrap: wrap; gap: 10px; margin: 8px 0 18px; } figure { margin: 0; } figcaption { font-size: 13px; color: var(--quiet); }
";

/// A piece of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Text.
    Text(String),
    /// What is said in a machine's words: a path, a digest.
    Code(String),
    /// A number, flush right.
    Number(String),
}

impl Html {
    /// A heading inside a section.
    pub(crate) fn heading(&mut self, text: &str) {
        self.element("h3", "", text);
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.element("p", "", text);
    }

    /// A paragraph that says less.
    pub(crate) fn aside(&mut self, text: &str) {
        self.element("p", "quiet", text);
    }

    /// A paragraph about what went wrong.
    pub(crate) fn bad(&mut self, text: &str) {
        self.element("p", "bad", text);
    }

    /// Text as it is, line by line.
    pub(crate) fn listing(&mut self, text: &str) {
        self.element("pre", "", text);
    }

    /// A table; nothing where there is no row. Heads of columns of numbers are flush right as these are.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<Cell>]) {
        let Some(first) = rows.first() else { return };
        self.0.push_str("<div class=\"wide\"><table><thead><tr>");
        for (name, cell) in head.iter().zip(first) {
            self.element("th", if matches!(cell, Cell::Number(_)) { "number" } else { "" }, name);
        }
        self.0.push_str("</tr></thead><tbody>");
        for row in rows {
            self.0.push_str("<tr>");
            for cell in row {
                match cell {
                    Cell::Text(text) => self.element("td", "", text),
                    Cell::Code(text) => self.element("td", "path", text),
                    Cell::Number(text) => self.element("td", "number", text),
                }
            }
            self.0.push_str("</tr>");
        }
        self.0.push_str("</tbody></table></div>\n");
    }

    /// Pictures beside each other, each with what it shows.
    pub(crate) fn figures(&mut self, figures: &[(Vec<u8>, String)]) {
        self.0.push_str("<div class=\"row\">");
        for (png, caption) in figures {
            self.figure(png, caption);
        }
        self.0.push_str("</div>\n");
    }

    /// A wide picture, PNG, at its own size.
    pub(crate) fn whole(&mut self, png: &[u8], caption: &str) {
        self.0.push_str("<div class=\"whole\">");
        self.figure(png, caption);
        self.0.push_str("</div>\n");
    }

    /// A picture, PNG.
    fn figure(&mut self, png: &[u8], caption: &str) {
        self.0.push_str("<figure><img alt=\"");
        self.text(caption);
        self.0.push_str("\" src=\"data:image/png;base64,");
        STANDARD.encode_string(png, &mut self.0);
        self.0.push_str("\">");
        self.element("figcaption", "", caption);
        self.0.push_str("</figure>\n");
    }

    /// A drawing of [`crate::chart`], as data too: nothing in it can be more than a picture.
    pub(crate) fn drawing(&mut self, svg: &str, alt: &str) {
        self.0.push_str("<img class=\"curve\" alt=\"");
        self.text(alt);
        self.0.push_str("\" src=\"data:image/svg+xml;base64,");
        STANDARD.encode_string(svg, &mut self.0);
        self.0.push_str("\">\n");
    }

    fn element(&mut self, name: &'static str, class: &'static str, text: &str) {
        match class {
            "" => self.0.push_str(&format!("<{name}>")),
            class => self.0.push_str(&format!("<{name} class=\"{class}\">")),
        }
        self.text(text);
        self.0.push_str(&format!("</{name}>\n"));
    }

    /// Text, in which nothing means anything to a browser.
    fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                // What terminals obey and what turns lines around shows as what it is.
                control if is_hidden(control) => {
                    self.0.push_str(&format!("\\u{{{:x}}}", u32::from(control)));
                }
                other => self.0.push(other),
            }
        }
    }
}

/// Characters that show as nothing and change how others show.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A whole page of sections, each with its title.
pub(crate) fn page(title: &str, sections: &[(String, Html)]) -> String {
    let mut page = Html::default();
    page.0.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.0.push_str(&format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n"));
    page.0.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.element("title", "", title);
    page.0.push_str(&format!("<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"));
    page.element("h1", "", title);
    for (title, body) in sections {
        page.0.push_str("<section>\n");
        page.element("h2", "", title);
        page.0.push_str(&body.0);
        page.0.push_str("</section>\n");
    }
    page.element("footer", "", concat!("written by sr3 ", env!("CARGO_PKG_VERSION")));
    page.0.push_str("</main>\n</body>\n</html>\n");
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACK: &str = "</title><script>alert(1)</script>\" onerror='x' & \u{202e}\u{1b}[2J";

    #[test]
    fn whatever_comes_in_shows_as_itself() {
        let mut body = Html::default();
        body.heading(ATTACK);
        body.paragraph(ATTACK);
        body.listing(ATTACK);
        body.table(&[ATTACK, ATTACK], &[vec![Cell::Text(ATTACK.into()), Cell::Code(ATTACK.into())]]);
        body.whole(b"png", ATTACK);
        body.drawing("<svg/>", ATTACK);
        let page = page(ATTACK, &[(ATTACK.into(), body)]);
        assert!(!page.contains("<script") && !page.contains("onerror='") && !page.contains('\u{202e}'));
        assert!(!page.contains('\u{1b}'));
        assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 13);
    }

    #[test]
    fn a_page_refers_to_nothing_outside_itself() {
        let mut body = Html::default();
        body.figures(&[(vec![1, 2, 3], "a".into()), (vec![4], "b".into())]);
        body.table(&["a"], &[]);
        let page = page("t", &[("s".into(), body)]);
        for reference in ["http:", "https:", "//", "url(", "@import", "<link", "<script", "file:"] {
            let found = page.replace("<!doctype html>", "");
            assert!(!found.contains(reference), "{reference}");
        }
        assert!(page.contains("src=\"data:image/png;base64,AQID\""));
    }
}
