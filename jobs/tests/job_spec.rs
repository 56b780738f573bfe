//! What people write into job specs, and what they are told.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

use proptest::prelude::*;
use serde_json::Value;
use sr3_jobs::{
    ClassChoice, Colour, DeviceChoice, Dtype, JobSpec, Selection, Wish, Writing,
    images::FormatChoice,
    upscale::{UpscaleFields, UpscaleSpec},
};
use sr3_proto::{SpecError, job_spec::TEXT_BYTES_MAX};

const BUCKET: &str = include_str!("../../deploy/recipes/upscale-bucket.yaml");
const FOLDER: &str = include_str!("../../deploy/recipes/upscale-folder.yaml");

const LEAST: &str = "kind: upscale\nsource: in\ndestination: out\n";

fn upscale(text: &str) -> UpscaleSpec {
    let JobSpec::Upscale(job) = JobSpec::parse(text).unwrap() else { panic!("another kind") };
    job
}

fn refused(text: &str) -> SpecError {
    JobSpec::parse(text).unwrap_err()
}

#[test]
fn what_is_not_said_is_as_documented() {
    assert_eq!(upscale(LEAST), UpscaleSpec::new("in", "out"));
    assert_eq!(
        upscale("{\"kind\": \"upscale\", \"source\": \"in\", \"destination\": \"out\"}"),
        upscale(LEAST)
    );
    assert_eq!(
        upscale(&format!("\u{feff}--- # a job\n{LEAST}preset: ~\nsteps: null\n...\n")),
        upscale(LEAST)
    );
}

#[test]
fn the_recipes_are_jobs_and_the_commented_fields_of_one_are_right() {
    let bucket = upscale(BUCKET);
    assert_eq!(
        (bucket.job.priority, bucket.selection.bytes_min, bucket.selection.include.len()),
        (2, Some(1024), 3)
    );
    assert_eq!(upscale(FOLDER), UpscaleSpec::new("photos", "photos-4x"));
    let all = upscale(
        &FOLDER
            .replace("\n# ", "\n")
            .replace("These two", "# These two")
            .replace("\nthe defaults", "\n# the defaults"),
    );
    assert_eq!(all.job.max_bad_items, Some(10));
}

#[test]
fn every_field_is_read() {
    let job = upscale(
        "kind: upscale\nname: 2024\nsource: 's3://a/in'\ndestination: |-\n  s3://a/out\nmodel: \"m\"\npreset: fine\n\
         scale: 8\nsteps: 10000\nsampler: ddim\nclass: 7\ntile: 0x100\nseed: 18446744073709551615\nprojection: false\n\
         dtype: bf16\ndevice: cuda\nformat: jpg\nquality: 1\nbackground: white\ninclude: [a]\nexclude:\n- b\n- 'c: d'\nbytes_min: 1\nbytes_max: 1\n\
         overwrite: true\nmax_bad_items: 0\npriority: 100\n",
    );
    assert_eq!(
        job,
        UpscaleSpec {
            job: UpscaleFields {
                name: Some("2024".into()),
                source: "s3://a/in".into(),
                destination: "s3://a/out".into(),
                overwrite: true,
                max_bad_items: Some(0),
                priority: 100,
            },
            wish: Wish {
                model: "m".into(),
                preset: Some("fine".into()),
                scale: Some(8),
                steps: Some(10_000),
                sampler: Some("ddim".into()),
                class: Some(ClassChoice::One(7)),
                tile: Some(256),
                seed: u64::MAX,
                projection: false,
                dtype: Dtype::Bf16,
                device: DeviceChoice::Cuda,
            },
            writing: Writing {
                format: "jpeg".parse().unwrap(),
                quality: 1,
                background: Some(Colour([255; 3])),
            },
            selection: Selection {
                include: vec!["a".into()],
                exclude: vec!["b".into(), "c: d".into()],
                bytes_min: Some(1),
                bytes_max: Some(1),
            },
        }
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (more, line, parts) in [
        ("sede: 1\n", 4, &["`sede`", "`seed`"][..]),
        ("seed: 1\n\n# note\nMax-bad-items: 1\n", 7, &["`max_bad_items`"]),
        ("colour: red\n", 4, &["`colour`", "`source`", "`priority`"]),
        ("quality: 0\n", 4, &["`quality`", "1 to 100", "`0`"]),
        ("quality:\n  300\n", 5, &["1 to 100", "`300`"]),
        ("scale: 65\n", 4, &["1 to 64"]),
        ("steps: 10001\n", 4, &["1 to 10000"]),
        ("tile: 15\n", 4, &["16 to 65536"]),
        ("priority: 101\n", 4, &["1 to 100"]),
        ("seed: -1\n", 4, &["`seed`", "`-1`"]),
        ("seed: 1.5\n", 4, &["`1.5`"]),
        ("seed: '1'\n", 4, &["whole number"]),
        ("seed: 18446744073709551616\n", 4, &["whole number"]),
        ("seed:\nquality: 9\n", 4, &["found nothing"]),
        ("overwrite: yes\n", 4, &["true or false", "`yes`"]),
        ("include: '*.png'\n", 4, &["a list"]),
        ("include:\n- a\n- [b]\n", 6, &["`include`", "text", "a list"]),
        ("preset: {a: b}\n", 4, &["text", "a map"]),
        ("model: ''\n", 4, &["`model`", "text"]),
        ("device: tpu\n", 4, &["`device`", "`tpu`", "cuda"]),
        ("format: gif\n", 4, &["`gif`", "png"]),
        ("format: \"g\\nf\"\n", 4, &["g\\nf"]),
        ("seed: 1\nseed: 1\n", 5, &["`seed`", "line 4"]),
        ("bytes_min: 2\nbytes_max: 1\n", 5, &["`bytes_max`", "`bytes_min`"]),
        ("preset: &a fast\nsampler: *a\n", 5, &["aliases"]),
        ("preset: !!str fast\n", 4, &["tags"]),
        ("<<: {seed: 1}\n", 4, &["`<<`"]),
        ("---\nkind: upscale\n", 4, &["one job a file"]),
        ("include: [a\n", 4, &["not YAML"]),
        // The parser means the value that the tab goes on with.
        ("\tseed: 1\n", 3, &["not YAML", "tab"]),
        ("? [a]\n: b\n", 4, &["name"]),
        ("kind: upscale\n", 4, &["twice"]),
    ] {
        let error = refused(&format!("{LEAST}{more}"));
        assert_eq!(error.line, Some(line), "{more}: {error}");
        assert!(parts.iter().all(|part| error.message.contains(part)), "{more}: {error}");
        assert_eq!(error.in_file("job.yaml"), format!("job.yaml:{line}: {}", error.message));
    }
}

#[test]
fn what_is_missing_or_not_a_job_is_said() {
    for (text, line, part) in [
        ("", None, "kind: upscale"),
        ("# only this\n", None, "kind: upscale"),
        ("---\n", None, "kind: upscale"),
        ("\nkind: upscale\ndestination: out\n", Some(2), "`source`"),
        ("source: in\ndestination: out\n", Some(1), "`kind`"),
        ("source: in\nknd: upscale\n", Some(2), "`kind`"),
        ("kind: upscal\n", Some(1), "`upscale`"),
        ("kind: [upscale]\n", Some(1), "text"),
        ("kind: upscale\nsource: a/\ndestination: a\n", Some(3), "source"),
        ("- kind: upscale\n", Some(1), "a map"),
        ("just words\n", Some(1), "a map"),
    ] {
        let error = refused(text);
        assert_eq!(error.line, line, "{text:?}: {error}");
        assert!(error.message.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn a_text_cannot_cost_more_than_it_weighs() {
    let padded = format!("{LEAST}# {}\n", "x".repeat(TEXT_BYTES_MAX));
    let deep = format!("{LEAST}include: {}", "[".repeat(100_000));
    let deep_blocks = format!("{LEAST}include: {}", "- ".repeat(100_000));
    let deep_keys = "? ".repeat(300_000);
    let bomb = format!("{LEAST}a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n");
    let many: String = (0..100_000).map(|i| format!("k{i}: 1\n")).collect();
    for text in [padded, deep, deep_blocks, deep_keys, bomb, format!("{LEAST}{many}")] {
        let message = refused(&text).message;
        assert!(message.len() < 1000 && !message.contains('\n'), "{message}");
    }
}

#[test]
fn a_field_found_wrong_later_has_its_line() {
    let line = |text: &str| JobSpec::documents(text).unwrap()[0].line_of("preset");
    assert_eq!(line(&format!("{LEAST}preset: best\n")), Some(4));
    assert_eq!(line(LEAST), None);
}

const STAGES: &str = "kind: train
name: flowers
source: in
destination: runs/flowers/
batch: 8
steps: 10
stages:
- {name: base, high_res: 16, model: {inner_channel: 8, norm_groups: 4}}
- name: enlarge
  high_res: 32
  low_res: 16
  batch: 4
  model: {inner_channel: 8, norm_groups: 4}
";

#[test]
fn stages_of_one_spec_are_runs_of_their_own() {
    let read = |text: &str| -> Result<Vec<_>, SpecError> {
        JobSpec::documents(text)?.iter().map(JobSpec::read).collect()
    };
    let runs: Vec<_> = read(STAGES).unwrap();
    let of = |run: &JobSpec| match run {
        JobSpec::Train(spec) => {
            let t = &spec.train;
            (t.name.clone().unwrap(), t.destination.clone(), t.source.clone(), t.high_res, t.batch)
        }
        _ => panic!("another kind"),
    };
    assert_eq!(
        runs.iter().map(of).collect::<Vec<_>>(),
        [
            ("flowers/base".into(), "runs/flowers/base".into(), "in".into(), 16, 8),
            ("flowers/enlarge".into(), "runs/flowers/enlarge".into(), "in".into(), 32, 4),
        ]
    );
    // Each has a text of its own, which is what a coordinator is given.
    assert!(runs.iter().all(|run| run.check().is_ok()));
    for (right, wrong, line, what) in [
        ("- {name: base,", "- {", 8, "every stage needs a `name`"),
        ("name: enlarge", "name: base", 9, "another stage is called so"),
        ("name: enlarge", "name: ../enlarge", 9, "letters, digits"),
        ("  low_res: 16\n", "  destination: elsewhere\n", 11, "leave it out"),
        ("  low_res: 16\n", "  low_rse: 16\n", 11, "did you mean `low_res`"),
        ("batch: 4", "batch: none", 12, "`batch`"),
        ("- name: enlarge\n  high_res", "- enlarge\n- high_res", 9, "expected a map of fields"),
    ] {
        let error = read(&STAGES.replacen(right, wrong, 1)).unwrap_err();
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.message.contains(what), "{error}");
    }
    let one = JobSpec::parse(STAGES).unwrap_err();
    assert!(one.line == Some(8) && one.message.contains("`sr3 submit`"), "{one}");
    let mut job: Value = serde_json::json!({
        "kind": "train", "source": "in", "destination": "out", "batch": 8,
        "stages": [{"name": "base", "high_res": 16, "model": "sr3-64"}],
    });
    conforms(&job, &JobSpec::schema()).unwrap();
    // It is whole: nothing in it refers to what is not in it.
    assert!(!JobSpec::schema().to_string().contains("$ref"));
    job["stages"][0]["crop"] = "middle".into();
    conforms(&job, &JobSpec::schema()).unwrap_err();
    job["stages"][0]["crop"] = "random".into();
    conforms(&job, &JobSpec::schema()).unwrap();
    job["stages"][0]["low_rse"] = 8.into();
    conforms(&job, &JobSpec::schema()).unwrap_err();
}

#[test]
fn a_spec_that_was_built_is_held_to_the_same_rules() {
    let job = UpscaleSpec::new("in", "out");
    JobSpec::from(job.clone()).check().unwrap();
    let (mut no_quality, mut no_source) = (job.clone(), job);
    no_quality.writing.quality = 0;
    no_source.job.source = String::new();
    for wrong in [no_quality, no_source] {
        assert_eq!(JobSpec::from(wrong).check().unwrap_err().line, None);
    }
}

/// The part of JSON Schema that ours uses.
fn conforms(value: &Value, schema: &Value) -> Result<(), String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    let typed =
        types.is_null() || types == kind || types.as_array().is_some_and(|all| all.contains(&kind.into()));
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let constant = schema.get("const").is_none_or(|only| only == value);
    let above = value.as_u64().zip(schema["minimum"].as_u64()).is_none_or(|(value, min)| value >= min);
    let below = value.as_u64().zip(schema["maximum"].as_u64()).is_none_or(|(value, max)| value <= max);
    let filled =
        value.as_str().zip(schema["minLength"].as_u64()).is_none_or(|(s, min)| s.len() as u64 >= min);
    let painted =
        schema.get("pattern").is_none() || value.as_str().is_none_or(|s| s.parse::<Colour>().is_ok());
    if !(typed && painted && listed && constant && above && below && filled) {
        return Err(format!("{value} against {schema}"));
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fits = all.iter().filter(|one| conforms(value, one).is_ok()).count();
        if fits != 1 {
            return Err(format!("fits {fits} kinds: {value}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(item, &schema["items"])?;
    }
    let Some((fields, known)) = value.as_object().zip(schema["properties"].as_object()) else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        fields.get(name.as_str().unwrap()).ok_or_else(|| format!("{name} is missing"))?;
    }
    for (name, value) in fields {
        let closed = schema["additionalProperties"] == false;
        match known.get(name) {
            Some(schema) => conforms(value, schema)?,
            None if closed => return Err(format!("{name} is unknown")),
            None => {}
        }
    }
    Ok(())
}

#[test]
fn the_schema_takes_the_recipes_and_refuses_what_the_parser_refuses() {
    let schema = JobSpec::schema();
    for text in [BUCKET, FOLDER, LEAST] {
        let mut job = serde_json::to_value(JobSpec::parse(text).unwrap()).unwrap();
        conforms(&job, &schema).unwrap();
        for (field, wrong) in [
            ("sede", Value::from(1)),
            ("kind", "upscal".into()),
            ("quality", 0.into()),
            ("quality", 101.into()),
            ("priority", 101.into()),
            ("scale", 65.into()),
            ("tile", 15.into()),
            ("steps", 10_001.into()),
            ("source", "".into()),
            ("format", "gif".into()),
            ("background", "puce".into()),
            ("seed", "1".into()),
            ("include", "a".into()),
        ] {
            let right = job.as_object_mut().unwrap().insert(field.into(), wrong.clone());
            assert!(conforms(&job, &schema).is_err(), "{field}: {wrong}");
            assert!(JobSpec::parse(&job.to_string()).is_err(), "{field}: {wrong}");
            match right {
                Some(right) => job[field] = right,
                None => drop(job.as_object_mut().unwrap().remove(field)),
            }
        }
        job.as_object_mut().unwrap().remove("source");
        assert!(conforms(&job, &schema).is_err(), "without a source");
    }
}

#[test]
fn every_field_is_in_the_schema_with_its_description_and_default() {
    let schema = JobSpec::schema();
    let upscale = &schema["oneOf"][0];
    assert_eq!(upscale["additionalProperties"], false);
    let known = upscale["properties"].as_object().unwrap();
    let UpscaleSpec { job, wish, .. } = UpscaleSpec::new("in", "out");
    let full = UpscaleSpec {
        job: UpscaleFields { name: Some("n".into()), max_bad_items: Some(0), ..job },
        wish: Wish {
            preset: Some("p".into()),
            scale: Some(1),
            steps: Some(1),
            sampler: Some("s".into()),
            class: Some(ClassChoice::One(0)),
            tile: Some(16),
            ..wish
        },
        selection: Selection { bytes_min: Some(0), bytes_max: Some(0), ..Selection::default() },
        writing: Writing { background: Some(Colour([0; 3])), ..Writing::default() },
    };
    let full = serde_json::to_value(JobSpec::from(full)).unwrap();
    let least = serde_json::to_value(JobSpec::parse(LEAST).unwrap()).unwrap();
    let names: Vec<_> = full.as_object().unwrap().keys().collect();
    assert_eq!(names, known.keys().collect::<Vec<_>>());
    let mut required: Vec<_> =
        upscale["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    required.sort_unstable();
    assert_eq!(required, ["destination", "kind", "source"]);
    for (name, field) in known.iter().filter(|(name, _)| *name != "kind") {
        assert!(field["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        if let Some(default) = field.get("default").filter(|default| !default.is_null()) {
            assert_eq!(*default, least[name], "{name}");
        }
    }
}

prop_compose! {
    fn sampled()(
        name in prop::option::of("\\PC{1,20}"),
        preset in prop::option::of("[a-z~!&*%#:-]{1,8}"),
        sampler in prop::option::of(any::<String>().prop_filter("empty", |s| !s.is_empty())),
        scale in prop::option::of(1..=64u32),
        steps in prop::option::of(1..=10_000u32),
        tile in prop::option::of(16..=65_536u32),
    ) -> UpscaleSpec {
        let mut spec = UpscaleSpec::new("in", "out");
        spec.job.name = name;
        spec.wish = Wish { preset, sampler, scale, steps, tile, ..spec.wish };
        spec
    }
}

prop_compose! {
    fn job()(
        sampled in sampled(),
        // A folder below `in`, with any name but those that lead out of it or say which kind of place it is.
        source in any::<String>().prop_filter("elsewhere", |s| {
            !s.ends_with('.') && !s.contains("..") && !s.contains("://")
        }),
        numbers in (any::<u64>(), 1..=100u8, 1..=100u8, prop::option::of(any::<u64>())),
        bytes in prop::option::of((any::<u64>(), any::<u64>())),
        flags in (any::<bool>(), any::<bool>()),
        format in prop::sample::select(vec!["auto", "png", "jpeg", "webp", "tiff"]),
        globs in (prop::collection::vec(any::<String>(), 0..4), prop::collection::vec("\\PC{0,9}", 0..4)),
    ) -> UpscaleSpec {
        UpscaleSpec {
            job: UpscaleFields {
                source: format!("in/{source}."),
                priority: numbers.2,
                max_bad_items: numbers.3,
                overwrite: flags.1,
                ..sampled.job
            },
            wish: Wish {
                seed: numbers.0,
                projection: flags.0,
                dtype: if flags.0 ^ flags.1 { Dtype::Auto } else { Dtype::F32 },
                ..sampled.wish
            },
            selection: Selection {
                bytes_min: bytes.map(|(a, b)| a.min(b)),
                bytes_max: bytes.map(|(a, b)| a.max(b)),
                include: globs.0,
                exclude: globs.1,
            },
            writing: Writing {
                format: format.parse::<FormatChoice>().unwrap(),
                quality: numbers.1,
                background: flags.0.then_some(Colour([1, 2, numbers.1])),
            },
        }
    }
}

fn is_a_spec_or_one_line(text: &str) {
    if let Err(error) = JobSpec::parse(text) {
        let line = error.in_file("job.yaml");
        assert!(line.lines().count() == 1 && !line.chars().any(char::is_control), "{line:?} of {text:?}");
        // A lone carriage return ends a line too.
        let lines = 1 + text.matches(['\n', '\r']).count();
        assert!(error.line.is_none_or(|line| (1..=lines).contains(&(line as usize))), "{line} of {text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_canonical_text_is_read_back(job in job()) {
        let spec = JobSpec::from(job);
        prop_assert_eq!(JobSpec::parse(&spec.to_yaml()), Ok(spec));
    }

    #[test]
    fn any_bytes_are_a_spec_or_one_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        is_a_spec_or_one_line(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_punctuation_is_a_spec_or_one_line(text in "[-?:,\\[\\]{}#&*!|>'\"%@` \t\r\nak0~.<]{0,80}") {
        is_a_spec_or_one_line(&text);
        is_a_spec_or_one_line(&format!("{LEAST}{text}"));
    }

    #[test]
    fn a_mutated_spec_is_a_spec_or_one_line(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..8),
        pick in any::<bool>(),
    ) {
        let mut bytes = if pick { BUCKET } else { LEAST }.as_bytes().to_vec();
        for (at, edit, byte) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte % 128),
                2 => drop(bytes.drain(at..(at + usize::from(byte % 16)).min(bytes.len() - 1))),
                _ => bytes.extend_from_within(at..(at + usize::from(byte % 32)).min(bytes.len())),
            }
        }
        is_a_spec_or_one_line(&String::from_utf8_lossy(&bytes));
    }
}
