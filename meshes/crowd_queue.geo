// A pen before a door of 0.5 m, as in the experiments of Adrian and others (2020): 75 persons in
// |x| < 2.8, 0 < y < 6.7 leave through a throat, whose edges are cut to |x| = 0.4 at y = 0. Metres.
size = 0.4;  fine = 0.06;  // of cells: in the pen, in the throat
Point(1) = {-0.25, -0.15, 0};
Point(2) = {0.25, -0.15, 0};
Point(3) = {0.4, 0, 0};
Point(4) = {2.8, 0, 0};
Point(5) = {2.8, 6.7, 0};
Point(6) = {-2.8, 6.7, 0};
Point(7) = {-2.8, 0, 0};
Point(8) = {-0.4, 0, 0};
For k In {1 : 8}
  Line(k) = {k, k % 8 + 1};
EndFor
Curve Loop(1) = {1 : 8};
Plane Surface(1) = {1};
Physical Surface("pen") = {1};
Physical Curve("exit") = {1};
Physical Curve("walls") = {2 : 8};

Field[1] = Distance;
Field[1].CurvesList = {1, 2, 8};
Field[1].Sampling = 40;
Field[2] = Threshold;
Field[2].InField = 1;
Field[2].SizeMin = fine;  Field[2].SizeMax = size;  Field[2].DistMin = 0.2;  Field[2].DistMax = 2.5;
Background Field = 2;
Mesh.MeshSizeExtendFromBoundary = 0;
Mesh.MeshSizeFromPoints = 0;
