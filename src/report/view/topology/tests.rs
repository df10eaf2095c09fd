//! The tree from registers that may say anything, and names that may be anything.

use super::*;
use crate::host::collect;
use crate::host::source::fake::{Entry, FakeHost};

/// A function with a header of this type and these buses behind it.
fn add(host: &FakeHost, address: &str, class: &str, header_type: u8, buses: [u8; 2]) {
    let directory = format!("/sys/bus/pci/devices/{address}");
    let mut config = [0_u8; 64];
    config[0x0E] = header_type;
    config[0x19..0x1B].copy_from_slice(&buses);
    host.add(&[
        (&format!("{directory}/class"), Entry::Text(class)),
        (&format!("{directory}/config"), Entry::Bytes(&config)),
    ]);
}

fn addresses(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.address.to_string()).collect()
}

fn bridged() -> Topology {
    let host = FakeHost::new(&[]);
    add(&host, "0000:00:00.0", "0x060000", 0, [0, 0]);
    add(&host, "0000:00:02.0", "0x060400", 1, [1, 3]);
    add(&host, "0000:01:00.0", "0x060400", 1, [2, 2]);
    add(&host, "0000:02:00.0", "0x020000", 0, [0, 0]);
    add(&host, "0000:03:10.0", "0x020000", 0, [0, 0]);
    add(&host, "0001:01:00.0", "0x020000", 0, [0, 0]);
    Topology::of(&collect(&host.source()))
}

/// What is on the first root bus.
fn first_root(topology: &mut Topology) -> &mut Vec<Node> {
    match &mut topology.roots {
        Fact::Known(roots) => &mut roots[0].functions,
        unread => panic!("{unread:?}"),
    }
}

#[test]
fn a_function_hangs_on_the_nearest_bridge_of_its_domain() {
    let topology = bridged();

    let buses: Vec<_> = topology.roots().iter().map(|root| root.bus.as_str()).collect();
    assert_eq!(buses, ["0000:00", "0001:01"]);
    let root = &topology.roots()[0].functions;
    assert_eq!(addresses(root), ["0000:00:00.0", "0000:00:02.0"]);
    assert_eq!(addresses(&root[1].functions), ["0000:01:00.0", "0000:03:10.0"]);
    assert_eq!(addresses(&root[1].functions[0].functions), ["0000:02:00.0"]);
}

#[test]
fn bridges_that_point_at_themselves_or_each_other_make_no_loop_and_hide_nobody() {
    let host = FakeHost::new(&[]);
    add(&host, "0000:00:01.0", "0x060400", 1, [0, 255]);
    add(&host, "0000:01:00.0", "0x060400", 1, [2, 255]);
    add(&host, "0000:02:00.0", "0x060400", 1, [1, 255]);
    let topology = Topology::of(&collect(&host.source()));
    assert_eq!(topology.nodes().len(), 3);
}

#[test]
fn lines_of_the_tree_fit_the_terminal() {
    for width in [40, 60, 80, 200] {
        for line in anstream::adapter::strip_str(&tree(&bridged(), Some(width))).to_string().lines() {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        }
    }
}

#[test]
fn names_cannot_become_markup_or_code() {
    let mut topology = bridged();
    let node = &mut first_root(&mut topology)[0];
    node.name = "</text><script>x</script>\"];\u{1b}[2J\\".to_owned();
    node.short_name.clone_from(&node.name);
    let (svg, dot, tree) = (svg(&topology, Shape::Sheet), dot(&topology), tree(&topology, None));
    assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"), "{svg}");
    assert!(dot.contains("</text><script>x</script>\\\"];?[2J\\\\\\n"), "{dot}");
    assert!(!tree.contains("\u{1b}[2J"), "{tree:?}");
}

#[test]
fn functions_of_one_group_share_a_colour_in_the_picture() {
    let mut topology = bridged();
    let functions = first_root(&mut topology);
    functions[0].iommu_group = Fact::Known(9);
    functions[1].iommu_group = Fact::Known(4);
    functions[1].functions[1].iommu_group = Fact::Known(9);
    let svg = svg(&topology, Shape::Column);
    assert_eq!(svg.matches("<g class=\"g1\">").count(), 2, "{svg}");
    assert_eq!(svg.matches(">group 9<").count(), 2, "{svg}");
}

/// The numbers that stand in `name="..."` of the elements that start with `element`.
fn numbers(svg: &str, element: &str, name: &str) -> Vec<usize> {
    let elements = svg.split(element).skip(1).map(|rest| rest.split_once('>').unwrap().0);
    elements
        .map(|own| {
            own.split_once(&format!("{name}=\"")).unwrap().1.split_once('"').unwrap().0.parse().unwrap()
        })
        .collect()
}

#[test]
fn many_functions_make_a_sheet_that_holds_each_of_them_once() {
    let host = FakeHost::new(&[]);
    add(&host, "0000:00:01.0", "0x060400", 1, [1, 1]);
    for number in 0..200 {
        let (slot, function) = (number / 8, number % 8);
        add(&host, &format!("0000:01:{slot:02x}.{function}"), "0x020000", 0, [0, 0]);
    }
    let topology = Topology::of(&collect(&host.source()));
    let (sheet, column) = (svg(&topology, Shape::Sheet), svg(&topology, Shape::Column));
    for picture in [&sheet, &column] {
        assert_eq!(picture.matches("class=\"card\"").count(), 201);
    }
    let size = |svg: &str| (numbers(svg, "<svg xmlns", "width")[0], numbers(svg, "<svg xmlns", "height")[0]);
    assert_eq!(size(&column).0, 440);
    let (width, height) = size(&sheet);
    assert!(height < width && width < 2 * height, "{width} by {height}");
    let places = numbers(&sheet, "<rect class=\"card\"", "x").into_iter();
    let mut places: Vec<_> = places.zip(numbers(&sheet, "<rect class=\"card\"", " y")).collect();
    assert!(places.iter().all(|(x, y)| x + 300 < width && y + 44 < height));
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), count, "cards cover each other");
}

#[test]
fn a_host_whose_functions_cannot_be_read_is_unknown_and_not_empty() {
    let topology = Topology::of(&collect(&FakeHost::new(&[]).source()));
    assert!(tree(&topology, None).contains("unknown"), "{}", tree(&topology, None));
    assert!(svg(&topology, Shape::Column).contains("unknown"));
}
