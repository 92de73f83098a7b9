//! The field of GHASH (NIST SP 800-38D, 6.3): 128 bits, of which the first is the coefficient of 1.
//! Everything here takes constant time.
#![forbid(unsafe_code)]

/// The element 1.
const ONE: u128 = 1 << 127;

/// The product.
pub(super) fn mul(x: u128, y: u128) -> u128 {
    const R: u128 = 0xe1 << 120;
    let (mut z, mut v) = (0, y);
    for i in (0..128).rev() {
        z ^= v & 0u128.wrapping_sub((x >> i) & 1);
        v = (v >> 1) ^ (R & 0u128.wrapping_sub(v & 1));
    }
    z
}

/// `h` to the power of `n`, which is public.
pub(super) fn power(h: u128, mut n: u64) -> u128 {
    let (mut result, mut power) = (ONE, h);
    while n != 0 {
        if n & 1 != 0 {
            result = mul(result, power);
        }
        power = square(power);
        n >>= 1;
    }
    result
}

/// 1 / `h`, where `h` is not 0: h^(2^128 - 2), by the method of Itoh and Tsujii.
pub(super) fn inverse(h: u128) -> u128 {
    // h^(2^k - 1), for k = 1, 3, 7, .. 127.
    let (mut power, mut k) = (h, 1);
    while k < 127 {
        let mut shifted = power;
        for _ in 0..k {
            shifted = square(shifted);
        }
        power = mul(square(mul(shifted, power)), h);
        k = 2 * k + 1;
    }
    square(power)
}

/// `x` squared, which is `x` with a zero after each coefficient, reduced.
fn square(x: u128) -> u128 {
    let (low, high) = (spread((x >> 64) as u64), spread(x as u64));
    // x^128 = x^7 + x^2 + x + 1, also for the bits that these shift out at the end.
    let out = (high << 127) ^ (high << 126) ^ (high << 121);
    let high = high ^ out;
    low ^ high ^ (high >> 1) ^ (high >> 2) ^ (high >> 7)
}

/// A zero bit after each bit.
fn spread(x: u64) -> u128 {
    let mut x = u128::from(x);
    for i in (0..6).rev() {
        // Every other run of 2^i bits.
        let mask = u128::MAX / ((1 << (1 << i)) + 1);
        x = (x | (x << (1 << i))) & mask;
    }
    x << 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some elements, the ends of the range among them.
    fn elements() -> impl Iterator<Item = u128> {
        let some = (1u128..60).map(|i| {
            i.pow(7)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834)
        });
        some.chain((0..128).map(|i| 1 << i)).chain([u128::MAX])
    }

    #[test]
    fn squares_are_products() {
        assert!(elements().all(|x| square(x) == mul(x, x)));
        assert_eq!(square(0), 0);
    }

    #[test]
    fn an_element_times_its_inverse_is_one() {
        assert!(elements().all(|x| mul(x, inverse(x)) == ONE));
    }

    #[test]
    fn powers_are_products() {
        for x in elements() {
            let mut product = ONE;
            for n in 0..20 {
                assert_eq!(power(x, n), product);
                product = mul(product, x);
            }
        }
    }
}
