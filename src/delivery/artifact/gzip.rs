//! gzip without compression (RFC 1952, and stored blocks of RFC 1951): no
//! compressor whose next version could give other bytes.

/// Largest stored block (RFC 1951, 3.2.4).
const BLOCK: usize = 65_535;

/// Wraps bytes: no name, time 0, operating system 255 (unknown).
pub(in crate::delivery) fn wrap(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / BLOCK * 5 + 32);
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let mut blocks = bytes.chunks(BLOCK).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        // A chunk is never longer than its size.
        let len = block.len() as u16;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    // The length modulo 2^32, as RFC 1952 has it.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// CRC-32 as gzip wants it (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc: u32, byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn blocks_end_with_a_final_one() {
        assert_eq!(wrap(b"").len(), 10 + 5 + 8);
        assert_eq!(
            wrap(b"abc")[10..18],
            [1, 3, 0, 0xfc, 0xff, b'a', b'b', b'c']
        );
        let two = wrap(&vec![7; BLOCK + 1]);
        assert_eq!(two[10..15], [0, 0xff, 0xff, 0, 0]);
        assert_eq!(two[15 + BLOCK..][..6], [1, 1, 0, 0xfe, 0xff, 7]);
        assert_eq!(wrap(&vec![7; BLOCK])[10], 1);
    }
}
