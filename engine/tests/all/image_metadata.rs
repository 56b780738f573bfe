//! What is said beside the pixels is carried from format to format, or its absence is told: PNG's chunks, JPEG's segments, and
//! the ways between the formats.

use sr3_engine::image::{
    Channels, ColourChunks, DecodeLimits, Decoded, Encoded, Metadata, OutputFormat, Picture, Samples, Text,
    decode, encode,
};

use crate::image_metadata_files::{chunks, jpeg_with, packet, png_with, real, segments, text};

const ALL: [OutputFormat; 4] =
    [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp, OutputFormat::Tiff];

fn read(bytes: &[u8]) -> Decoded {
    let decoded = decode(bytes, &DecodeLimits::default()).unwrap();
    for note in &decoded.notes {
        assert!(!note.contains(char::is_control) && note.len() < 600, "{note:?}");
    }
    decoded
}

fn written(picture: &Picture, format: OutputFormat) -> (Encoded, Metadata) {
    let encoded = encode(picture, format, 95).unwrap();
    let again = read(&encoded.bytes);
    assert_eq!(again.notes, [] as [String; 0], "{format}");
    (encoded, again.picture.metadata)
}

/// A small gray picture with `metadata`.
fn picture(metadata: Metadata) -> Picture {
    Picture {
        width: 8,
        height: 4,
        channels: Channels::Gray,
        samples: Samples::U8((0..32).collect()),
        metadata,
    }
}

fn holds(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

#[test]
fn xmp_iptc_comment_and_exif_of_a_jpeg_are_carried() {
    let source = read(&real("metadata_dropped/jpeg_xmp_iptc_comment.jpg"));
    assert_eq!(source.notes, [] as [String; 0]);
    let metadata = &source.picture.metadata;
    assert!(metadata.xmp.as_ref().unwrap().contains("dc:rights=\"Jane\""));
    assert_eq!(metadata.iptc.as_deref(), Some(&b"\x1c\x02\x50\x00\x07Jane Do"[..]));
    assert_eq!(metadata.texts, [text("Comment", "my comment")]);
    for format in [OutputFormat::Png, OutputFormat::Jpeg] {
        let (encoded, again) = written(&source.picture, format);
        assert!(encoded.notes.is_empty(), "{:?}", encoded.notes);
        let without_density = |metadata: &Metadata| Metadata { density: None, ..metadata.clone() };
        assert_eq!(without_density(&again), without_density(metadata), "{format}");
    }
    let (webp, again) = written(&source.picture, OutputFormat::Webp);
    assert_eq!((again.xmp, again.exif), (metadata.xmp.clone(), metadata.exif.clone()));
    assert_eq!(webp.notes.len(), 3, "IPTC, the comment, the density: {:?}", webp.notes);
    let (tiff, again) = written(&source.picture, OutputFormat::Tiff);
    assert_eq!((again.xmp, again.iptc), (metadata.xmp.clone(), metadata.iptc.clone()));
    assert_eq!(tiff.notes, ["texts left out: TIFF has no place for \"Comment\""]);
    assert!(holds(&again.exif.unwrap(), "Canon"));
}

#[test]
fn the_parameters_of_an_image_generator_are_carried_everywhere() {
    let source = read(&real("metadata_dropped/png_text_parameters.png"));
    assert_eq!(source.notes, [] as [String; 0]);
    let words = "a tree with a bird\nSteps: 40, Seed: 968002204";
    assert_eq!(source.picture.metadata.texts, [text("parameters", words)]);
    for format in ALL {
        let (encoded, again) = written(&source.picture, format);
        assert!(encoded.notes.is_empty() && again.xmp == source.picture.metadata.xmp, "{format}");
        match format {
            OutputFormat::Png => assert_eq!(again.texts, source.picture.metadata.texts),
            _ => assert!(holds(&again.exif.unwrap(), words), "{format}"),
        }
    }
}

#[test]
fn exif_in_a_text_of_imagemagick_turns_the_picture_once() {
    let turned = read(&real("metadata_dropped/png_raw_profile_exif_o6.png")).picture;
    let stored = read(&real("metadata_dropped/png_text_parameters.png")).picture;
    assert_eq!((turned.width, turned.height), (stored.height, stored.width));
    let (Samples::U8(turned_samples), Samples::U8(stored_samples)) = (&turned.samples, &stored.samples)
    else {
        panic!("not 8 bit")
    };
    // Orientation 6: the first row is the first column, read upwards.
    let count = turned.channels.count();
    let pixel = |x: usize, y: usize| &stored_samples[count * (y * stored.width + x)..][..count];
    let column: Vec<u8> = (0..stored.height).rev().flat_map(|y| pixel(0, y).to_vec()).collect();
    assert_eq!(turned_samples[..column.len()], column);
    for format in ALL {
        let (encoded, again) = written(&turned, format);
        assert!(encoded.notes.is_empty(), "{format}: {:?}", encoded.notes);
        assert!(holds(&again.exif.unwrap(), "(c) Jane"), "{format}");
        let size = read(&encoded.bytes).picture;
        assert_eq!((size.width, size.height), (turned.width, turned.height), "{format}");
    }
}

#[test]
fn colour_chunks_stay_in_png_and_are_missed_elsewhere_if_they_matter() {
    for (file, words) in [
        ("png_chrm_gama.png", "primaries left out"),
        ("png_cicp_pq.png", "colour space (cICP primaries 9, transfer 16) left out"),
        ("png_gama_linear.png", "gamma (1) left out"),
    ] {
        let bytes = real(&format!("png_colour_chunks/{file}"));
        let source = read(&bytes);
        let (png, again) = written(&source.picture, OutputFormat::Png);
        assert!(png.notes.is_empty() && again == source.picture.metadata, "{file}");
        let colour = |bytes: &[u8]| {
            let mut found = chunks(bytes);
            found.retain(|chunk| matches!(&chunk.0, b"gAMA" | b"cHRM" | b"cICP"));
            found
        };
        assert!(!colour(&bytes).is_empty() && colour(&png.bytes) == colour(&bytes), "{file}");
        for format in [OutputFormat::Jpeg, OutputFormat::Webp, OutputFormat::Tiff] {
            let notes = written(&source.picture, format).0.notes;
            assert!(notes.iter().any(|note| note.starts_with(words) && note.contains("png")), "{notes:?}");
        }
    }
    let colour = ColourChunks {
        gamma: Some(45_455),
        chromaticities: Some([31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000]),
        srgb: Some(1),
        cicp: Some([1, 13, 0, 1]),
        ..ColourChunks::default()
    };
    let plain = picture(Metadata { colour, ..Metadata::default() });
    for format in ALL {
        assert!(encode(&plain, format, 90).unwrap().notes.is_empty(), "{format}");
    }
    let light = ColourChunks { mastering: Some([7; 24]), light_level: Some([9; 8]), ..colour };
    let bright = picture(Metadata { colour: light, ..Metadata::default() });
    assert_eq!(written(&bright, OutputFormat::Png).1.colour, light);
    assert_eq!(encode(&bright, OutputFormat::Tiff, 90).unwrap().notes.len(), 1);
}

#[test]
fn every_kind_of_png_text_is_read() {
    let deflated = |bytes: &[u8]| {
        let mut packed = Vec::new();
        let mut encoder = flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap();
        packed
    };
    let iptc = "\niptc\n      11\n1c02500006\n4a616e652044\n";
    let resource = "\n8bim\n 24\n3842494d04040000000000\n0b1c025000064a616e65204400";
    let file = png_with(&[
        (b"tEXt", b"Author\0J\xfcrgen".to_vec()),
        (b"zTXt", [&b"Comment\0\0"[..], &deflated("long ".repeat(1000).as_bytes())].concat()),
        (b"iTXt", ["Title\0\0\0de\0Titel\0".as_bytes(), "鳥と木".as_bytes()].concat()),
        (b"iTXt", [&b"prompt\0\x01\0\0\0"[..], &deflated("{\"1\": \"ü\"}".as_bytes())].concat()),
        (b"tEXt", ["Raw profile type iptc\0", iptc].concat().into_bytes()),
        (b"tEXt", ["Raw profile type 8bim\0", resource].concat().into_bytes()),
        (b"tEXt", b"exif:Orientation\x006".to_vec()),
        (b"tIME", vec![7, 0xe8, 1, 1, 0, 0, 0]),
        (b"bKGD", vec![0, 0]),
        (b"prVt", vec![1, 2, 3]),
    ]);
    let source = read(&file);
    let wanted = [
        text("Author", "Jürgen"),
        text("Comment", &"long ".repeat(1000)),
        text("Title", "鳥と木"),
        text("prompt", "{\"1\": \"ü\"}"),
    ];
    assert_eq!(source.picture.metadata.texts, wanted);
    assert_eq!(source.picture.metadata.iptc.as_deref(), Some(&b"\x1c\x02\x50\0\x06Jane D"[..]));
    assert_eq!(
        source.notes,
        ["left out: the language of text Title, ImageMagick's copies of EXIF and XMP, bKGD, prVt"]
    );
    let (png, again) = written(&source.picture, OutputFormat::Png);
    assert_eq!((again.texts, again.iptc), (wanted.to_vec(), source.picture.metadata.iptc.clone()));
    // What Latin-1 can say is written for the oldest readers.
    let kinds: Vec<_> =
        chunks(&png.bytes).into_iter().map(|chunk| chunk.0).filter(|kind| kind.ends_with(b"Xt")).collect();
    assert_eq!(kinds, [*b"tEXt", *b"tEXt", *b"iTXt", *b"tEXt", *b"tEXt"]);
}

#[test]
fn damaged_chunks_cost_themselves_only() {
    let mut wrong_sum = png_with(&[(b"tEXt", b"Author\0Jane".to_vec())]);
    let at = wrong_sum.windows(4).position(|w| w == b"Jane").unwrap();
    wrong_sum[at] = b'j';
    for (file, words) in [
        (wrong_sum, "a damaged text"),
        (png_with(&[(b"tEXt", b"no keyword".to_vec())]), "a damaged text"),
        (png_with(&[(b"zTXt", b"Comment\0\0not zlib".to_vec())]), "a text that does not unpack"),
        (png_with(&[(b"iTXt", b"Title\0\0\0\0\0\xff".to_vec())]), "a damaged text"),
        (png_with(&[(b"iTXt", b"Title\0\x05\0\0\0x".to_vec())]), "a damaged text"),
        (png_with(&[(b"gAMA", vec![1, 2, 3])]), "gAMA"),
        (
            png_with(&[(b"tEXt", b"Raw profile type exif\0\nexif\n 9\n00".to_vec())]),
            "a damaged profile of type exif",
        ),
        (png_with(&[(b"tEXt", b"Raw profile type \x9b31m\0\nx\n 1\n00".to_vec())]), "a damaged text"),
    ] {
        let decoded = read(&file);
        assert_eq!(decoded.notes, [format!("left out: {words}")]);
        assert_eq!(decoded.picture.metadata, Metadata::default());
    }
    let decoded = read(&png_with(&[(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0hello".to_vec())]));
    assert_eq!(decoded.notes, ["XMP dropped: it is no XMP packet"]);
}

#[test]
fn texts_of_strangers_are_bounded_and_their_names_cut_short() {
    let bomb = {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        (0..64).for_each(|_| std::io::Write::write_all(&mut encoder, &[b'a'; 1 << 20]).unwrap());
        [&b"Comment\0\0"[..], &encoder.finish().unwrap()].concat()
    };
    let bombs: Vec<_> = (0..20).map(|_| (b"zTXt", bomb.clone())).collect();
    let decoded = read(&png_with(&bombs));
    assert!(decoded.picture.metadata.texts.is_empty());
    assert!(decoded.notes[0].starts_with("metadata left out: 20 parts"), "{:?}", decoded.notes);

    let long: Vec<_> = (0..9).map(|_| (b"tEXt", [&b"k\0"[..], &[b'x'; 1 << 19]].concat())).collect();
    assert_eq!(read(&png_with(&long)).picture.metadata.texts.len(), 7);
    let many: Vec<_> = (0..1005).map(|_| (b"tEXt", b"k\0x".to_vec())).collect();
    assert_eq!(read(&png_with(&many)).picture.metadata.texts.len(), 1000);

    let names: Vec<[u8; 4]> = (b'a'..=b'z').map(|c| [c, b'a', 0x1b, b'\n']).collect();
    let strange: Vec<_> = names.iter().map(|name| (name, vec![])).collect();
    if let Ok(decoded) = decode(&png_with(&strange), &DecodeLimits::default()) {
        assert_eq!(decoded.notes, ["left out: aa, ba, ca, da, ea, fa, ga, ha and 18 more"]);
    }
    let segments: Vec<_> =
        (0..30).map(|i| (0xe7, format!("{i:02}\x1b[31m{}\0", "N".repeat(200)).into_bytes())).collect();
    assert_eq!(read(&jpeg_with(&segments)).notes, ["left out: APP7"]);
}

#[test]
fn xmp_never_contradicts_the_pixels() {
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let words = packet(
        "<rdf:Description tiff:Orientation=\"6\" exif:PixelXDimension=\"64\"/><tiff:Orientation>8</tiff:Orientation>",
    );
    let file =
        jpeg_with(&[(0xe1, exif), (0xe1, [b"http://ns.adobe.com/xap/1.0/\0", words.as_bytes()].concat())]);
    let mut picture = read(&file).picture;
    assert_eq!((picture.width, picture.height), (4, 8));
    let upright = |words: &str, size: &str| {
        words.contains("tiff:Orientation=\"1\"")
            && words.contains("<tiff:Orientation>1<")
            && words.contains(&format!("PixelXDimension=\"{size}\""))
    };
    assert!(upright(picture.metadata.xmp.as_ref().unwrap(), "4"));
    // As a whole scale would make it.
    (picture.width, picture.height) = (16, 32);
    picture.samples = Samples::U8(vec![100; 16 * 32]);
    for format in ALL {
        assert!(upright(&written(&picture, format).1.xmp.unwrap(), "16"), "{format}");
    }
}

#[test]
fn texts_go_where_a_format_has_a_place_and_are_named_where_it_has_none() {
    let texts = vec![
        text("Description", "a tree"),
        text("Author", "Jürgen"),
        text("Copyright", "(c)"),
        text("Software", "paint"),
        text("Comment", "鳥"),
        text("Title", "Tree\u{1b}"),
        text("Evil\u{1b}[31m\nname", "x"),
    ];
    let source = picture(Metadata { texts: texts.clone(), ..Metadata::default() });
    let (png, again) = written(&source, OutputFormat::Png);
    assert_eq!(again.texts, texts[..6]);
    assert_eq!(png.notes, ["texts left out: PNG has no place for \"Evil[31mname\""]);
    let (jpeg, again) = written(&source, OutputFormat::Jpeg);
    assert_eq!(again.texts, [text("Comment", "鳥")]);
    assert_eq!(jpeg.notes, ["texts left out: JPEG has no place for \"Title\", \"Evil[31mname\""]);
    for format in [OutputFormat::Jpeg, OutputFormat::Webp, OutputFormat::Tiff] {
        let exif = written(&source, format).1.exif.unwrap();
        assert!(["a tree", "Jürgen", "(c)", "paint"].iter().all(|words| holds(&exif, words)), "{format}");
        let comment = [0x9c, 0xe5];
        assert_eq!(
            exif.windows(2).any(|w| w == comment),
            format != OutputFormat::Jpeg,
            "鳥 in UTF-16: {format}"
        );
    }
    // A block that came is not rebuilt: what EXIF could say is missed then.
    let exif = read(&real("metadata_dropped/jpeg_xmp_iptc_comment.jpg")).picture.metadata.exif;
    let both = picture(Metadata { texts, exif, ..Metadata::default() });
    let (jpeg, again) = written(&both, OutputFormat::Jpeg);
    assert_eq!(again.texts, [text("Comment", "a tree"), text("Comment", "鳥")]);
    assert!(jpeg.notes[0].contains("\"Author\""), "{:?}", jpeg.notes);
}

#[test]
fn what_a_jpeg_segment_cannot_hold_is_told() {
    let long = picture(Metadata {
        xmp: Some(packet(&"x".repeat(70_000))),
        iptc: Some([&b"\x1c\x02\x78\x80\x04\0\x01\x11\x70"[..], &[b'i'; 70_000]].concat()),
        texts: vec![Text { keyword: Text::COMMENT.to_owned(), text: "c".repeat(70_000) }],
        ..Metadata::default()
    });
    let (jpeg, again) = written(&long, OutputFormat::Jpeg);
    assert_eq!(again, Metadata::default());
    for words in ["XMP left out", "IPTC left out", "texts left out"] {
        assert!(jpeg.notes.iter().any(|note| note.starts_with(words)), "{:?}", jpeg.notes);
    }
    assert_eq!(written(&long, OutputFormat::Png).1, long.metadata);
    assert!(!segments(&jpeg.bytes).iter().any(|segment| matches!(segment.0, 0xe1 | 0xed | 0xfe)));
}

#[test]
fn damage_to_metadata_never_panics() {
    let files = [
        real("metadata_dropped/jpeg_xmp_iptc_comment.jpg"),
        real("metadata_dropped/png_raw_profile_exif_o6.png"),
        real("metadata_dropped/png_text_parameters.png"),
        real("metadata_dropped/tiff_exifish_o6.tif"),
    ];
    for file in &files {
        let reach = if file.starts_with(b"II") { 8..1000 } else { 0..350 };
        for at in reach {
            for value in [0, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                if let Ok(decoded) =
                    decode(&damaged, &DecodeLimits { pixels_max: 10_000, ..DecodeLimits::default() })
                {
                    let notes = ALL.iter().filter_map(|&format| encode(&decoded.picture, format, 90).ok());
                    let notes = notes.flat_map(|encoded| encoded.notes).chain(decoded.notes);
                    notes.for_each(|note| assert!(!note.contains(char::is_control), "{note:?}"));
                }
            }
        }
    }
}
