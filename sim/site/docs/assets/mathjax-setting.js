window.MathJax = {
  tex2jax: {
    inlineMath: [["\\(", "\\)"], ["$", "$"]], displayMath: [["\\[", "\\]"], ["$$", "$$"]],
    skipTags: ["script", "noscript", "style", "textarea", "pre", "code"],
  },
  jax: ["input/TeX", "output/HTML-CSS"],
  "HTML-CSS": { availableFonts: [], imageFont: null, webFont: "STIX-Web", mtextFontInherit: true },
  showMathMenu: false, messageStyle: "none",
};
