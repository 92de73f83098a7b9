# Debian 12 as it is tested, and beside it the packages that its upgrades bring.
FROM mail-crypt-test:bookworm
COPY packages.sh /
RUN /packages.sh
