//! Message ids made from names, so that a repeated message gets the same id.
//!
//! The result is a version 5 UUID (RFC 9562), which every language can compute.

use crate::ids::MessageId;

/// The namespace of plain names: the RFC's own for object identifiers.
const NAMESPACE: MessageId = MessageId::new(0x6ba7_b812_9dad_11d1_80b4_00c0_4fd4_30c8);

const VERSION_5: u128 = 0x5000 << 64;
const VERSION_MASK: u128 = 0xf000 << 64;
const VARIANT: u128 = 0x8000 << 48;
const VARIANT_MASK: u128 = 0xc000 << 48;

impl MessageId {
    /// The id of a name, such as an order number: the UUIDv5 of the name in the RFC's namespace
    /// for object identifiers.
    pub fn hash(name: impl AsRef<[u8]>) -> Self {
        Self::named(NAMESPACE, name.as_ref())
    }

    /// The UUIDv5 of a name in a namespace.
    pub fn named(namespace: Self, name: &[u8]) -> Self {
        let mut text = namespace.get().to_be_bytes().to_vec();
        text.extend_from_slice(name);
        let [a, b, c, d, _] = sha1(text);
        let raw = [a, b, c, d]
            .into_iter()
            .fold(0, |raw, word| raw << 32 | u128::from(word));
        let raw = raw & !VERSION_MASK & !VARIANT_MASK;
        Self::new(raw | VERSION_5 | VARIANT)
    }
}

/// SHA-1, which the RFC prescribes for these names; nothing here rests on its strength.
fn sha1(mut text: Vec<u8>) -> [u32; 5] {
    let bits = (text.len() as u64).wrapping_mul(8);
    text.push(0x80);
    while text.len() % 64 != 56 {
        text.push(0);
    }
    text.extend_from_slice(&bits.to_be_bytes());
    let start = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let (blocks, _) = text.as_chunks::<64>();
    blocks.iter().fold(start, compress)
}

fn compress(before: [u32; 5], block: &[u8; 64]) -> [u32; 5] {
    // The last sixteen words, oldest first.
    let mut window = [0u32; 16];
    let (words, _) = block.as_chunks::<4>();
    for (slot, word) in window.iter_mut().zip(words) {
        *slot = u32::from_be_bytes(*word);
    }
    let [mut a, mut b, mut c, mut d, mut e] = before;
    for round in 0..80 {
        let (mix, constant) = match round {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let [
            word,
            _,
            third,
            _,
            _,
            _,
            _,
            _,
            ninth,
            _,
            _,
            _,
            _,
            fourteenth,
            _,
            _,
        ] = window;
        let sum = [mix, e, constant, word]
            .into_iter()
            .fold(a.rotate_left(5), u32::wrapping_add);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, sum);
        window.rotate_left(1);
        let [.., last] = &mut window;
        *last = (word ^ third ^ ninth ^ fourteenth).rotate_left(1);
    }
    let [v, w, x, y, z] = before;
    [
        v.wrapping_add(a),
        w.wrapping_add(b),
        x.wrapping_add(c),
        y.wrapping_add(d),
        z.wrapping_add(e),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha1_gives_the_published_digests() {
        let empty = [
            0xda39_a3ee,
            0x5e6b_4b0d,
            0x3255_bfef,
            0x9560_1890,
            0xafd8_0709,
        ];
        assert_eq!(sha1(Vec::new()), empty);
        let abc = [
            0xa999_3e36,
            0x4706_816a,
            0xba3e_2571,
            0x7850_c26c,
            0x9cd0_d89d,
        ];
        assert_eq!(sha1(b"abc".to_vec()), abc);
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let digest = [
            0x8498_3e44,
            0x1c3b_d26e,
            0xbaae_4aa1,
            0xf951_29e5,
            0xe546_70f1,
        ];
        assert_eq!(sha1(two_blocks.to_vec()), digest);
    }

    #[test]
    fn names_give_the_uuids_that_other_libraries_give() {
        // From the documentation of Python's uuid module.
        let dns = MessageId::new(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);
        let id = MessageId::named(dns, b"python.org");
        assert_eq!(id.to_string(), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
    }

    #[test]
    fn one_name_gives_one_id() {
        assert_eq!(MessageId::hash("o-1"), MessageId::hash(b"o-1"));
        assert_ne!(MessageId::hash("o-1"), MessageId::hash("o-2"));
    }
}
